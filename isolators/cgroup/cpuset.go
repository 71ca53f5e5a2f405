package cgroup

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

func (i *Isolator) planCPUSet(p *plan, r *specs.LinuxCPU) error {
	if r == nil || (r.Cpus == "" && r.Mems == "") {
		return nil
	}
	for _, f := range []struct{ field, file, list string }{
		{"cpu.cpus", "cpuset.cpus", r.Cpus},
		{"cpu.mems", "cpuset.mems", r.Mems},
	} {
		if f.list == "" {
			continue
		}
		if err := checkList(f.list); err != nil {
			return fmt.Errorf("%s %q: %w", f.field, f.list, err)
		}
		p.add(setting{field: f.field, controller: cpuset, file: f.file, value: f.list})
	}
	if i.node.of(cpuset) == nil {
		return i.node.missing(cpuset, "cpu.cpus and cpu.mems")
	}
	return nil
}

// checkList checks a list of the form "0-3,8" (cpuset(7), "List format").
func checkList(s string) error {
	for part := range strings.SplitSeq(s, ",") {
		lo, hi, isRange := strings.Cut(part, "-")
		first, err := strconv.ParseUint(lo, 10, 16)
		last := first
		if err == nil && isRange {
			last, err = strconv.ParseUint(hi, 10, 16)
		}
		if err != nil || last < first {
			return fmt.Errorf("%q is not a number or a range of numbers such as 0-3: %w", part, containerizer.ErrInvalid)
		}
	}
	return nil
}

// initCPUSet gives a version 1 cpuset its parent's processors and memory nodes:
// it begins with none, and nothing can be attached to it then (cpusets.rst).
// Groups below a parent of ours begin with their parent's, by clone_children.
func initCPUSet(dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		have, err := readFile(dir + "/" + file)
		if err != nil {
			return err
		}
		if have != "" {
			continue
		}
		parent := path.Dir(dir)
		list, err := readFile(parent + "/" + file)
		if err != nil {
			return err
		}
		if list == "" {
			if err := initCPUSet(parent); err != nil {
				return err
			}
			if list, err = readFile(parent + "/" + file); err != nil {
				return err
			}
		}
		if err := writeFile(dir+"/"+file, list); err != nil {
			return err
		}
	}
	return nil
}

// expandList is the numbers of a list that was checked.
func expandList(s string) []int {
	var list []int
	for part := range strings.SplitSeq(s, ",") {
		lo, hi, isRange := strings.Cut(part, "-")
		first, _ := strconv.Atoi(lo)
		last := first
		if isRange {
			last, _ = strconv.Atoi(hi)
		}
		for n := first; n <= last; n++ {
			list = append(list, n)
		}
	}
	return list
}
