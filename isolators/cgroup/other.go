package cgroup

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// planHugetlb limits huge pages, and their reservation where the kernel has that
// (5.7). The kubelet sends a limit of 0 for every page size of the host, also
// where the controller is missing.
func (i *Isolator) planHugetlb(p *plan, limits []specs.LinuxHugepageLimit) error {
	present := i.node.of(hugetlb) != nil
	for _, l := range limits {
		if !validPageSize(l.Pagesize) {
			return fmt.Errorf("hugepageLimits: page size %q is not of the form 64KB, 2MB or 1GB: %w", l.Pagesize, containerizer.ErrInvalid)
		}
		if !present {
			if l.Limit == 0 {
				continue
			}
			return i.node.missing(hugetlb, "hugepageLimits")
		}
		suffix, value := "limit_in_bytes", strconv.FormatUint(min(l.Limit, 1<<63-1), 10)
		if i.node.unified {
			suffix = "max"
		}
		prefix := "hugetlb." + l.Pagesize + "."
		p.add(setting{field: "hugepageLimits " + l.Pagesize, controller: hugetlb, file: prefix + suffix, value: value})
		p.add(setting{field: "hugepageLimits " + l.Pagesize, controller: hugetlb, file: prefix + "rsvd." + suffix, value: value, lax: true})
	}
	return nil
}

func validPageSize(s string) bool {
	for _, unit := range []string{"KB", "MB", "GB"} {
		if n, ok := strings.CutSuffix(s, unit); ok {
			_, err := strconv.ParseUint(n, 10, 32)
			return err == nil && n[0] != '+'
		}
	}
	return false
}

// planNetwork tags packets (net_cls) and sets priorities (net_prio), which
// version 2 leaves to eBPF and the network's own tools.
func (i *Isolator) planNetwork(p *plan, r *specs.LinuxNetwork) error {
	if r == nil {
		return nil
	}
	if r.ClassID != nil && *r.ClassID != 0 {
		if i.node.of(netCls) == nil {
			return i.node.missing(netCls, "network.classID")
		}
		p.add(setting{field: "network.classID", controller: netCls, file: "net_cls.classid", value: strconv.FormatUint(uint64(*r.ClassID), 10)})
	}
	for _, prio := range r.Priorities {
		if i.node.of(netPrio) == nil {
			return i.node.missing(netPrio, "network.priorities")
		}
		if prio.Name == "" || len(prio.Name) > 15 || strings.ContainsAny(prio.Name, " \t\n/") {
			return fmt.Errorf("network.priorities: %q is not the name of an interface: %w", prio.Name, containerizer.ErrInvalid)
		}
		p.add(setting{
			field: "network.priorities", controller: netPrio, file: "net_prio.ifpriomap",
			value: prio.Name + " " + strconv.FormatUint(uint64(prio.Priority), 10), key: prio.Name, reset: prio.Name + " 0",
		})
	}
	return nil
}

func (i *Isolator) planRDMA(p *plan, r map[string]specs.LinuxRdma) error {
	for _, device := range slices.Sorted(maps.Keys(r)) {
		if i.node.of(rdma) == nil {
			return i.node.missing(rdma, "rdma")
		}
		if device == "" || strings.ContainsAny(device, " \t\n/") {
			return fmt.Errorf("rdma: %q is not the name of a device: %w", device, containerizer.ErrInvalid)
		}
		limits := r[device]
		value := device
		if limits.HcaHandles != nil {
			value += " hca_handle=" + strconv.FormatUint(uint64(*limits.HcaHandles), 10)
		}
		if limits.HcaObjects != nil {
			value += " hca_object=" + strconv.FormatUint(uint64(*limits.HcaObjects), 10)
		}
		if value == device {
			return fmt.Errorf("rdma: device %q has neither hcaHandles nor hcaObjects: %w", device, containerizer.ErrInvalid)
		}
		p.add(setting{field: "rdma", controller: rdma, file: "rdma.max", value: value, key: device, reset: device + " hca_handle=max hca_object=max"})
	}
	return nil
}

// planUnified adds raw files of version 2, last, so that they override what the
// typed fields say.
func (i *Isolator) planUnified(p *plan, files map[string]string) error {
	if len(files) == 0 {
		return nil
	}
	if !i.node.unified {
		return fmt.Errorf("unified (%s) needs cgroup version 2 and this node has version 1: %w", slices.Sorted(maps.Keys(files))[0], containerizer.ErrUnsupported)
	}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		name, _, ok := strings.Cut(file, ".")
		if !ok || strings.ContainsAny(file, "/\x00\n") {
			return fmt.Errorf("unified: %q is not the name of a control file such as memory.high: %w", file, containerizer.ErrInvalid)
		}
		c := controller(name)
		switch name {
		case "io":
			c = blkio
		case "cgroup":
			// cgroup.procs, cgroup.freeze … are not limits and are berth's own.
			if file != "cgroup.max.depth" && file != "cgroup.max.descendants" && file != "cgroup.pressure" {
				return fmt.Errorf("unified: %q is not a limit: %w", file, containerizer.ErrInvalid)
			}
			c = freezer // of every group
		}
		if i.node.of(c) == nil {
			return i.node.missing(c, "unified "+file)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(files[file], "\n"), "\n") {
			p.add(setting{field: "unified " + file, controller: c, file: file, value: line, key: unifiedKey(line), reset: unifiedReset(file, line)})
		}
	}
	return nil
}

// unifiedKey is the device that a line of a keyed file begins with, "" for a file
// of one value.
func unifiedKey(line string) string {
	key, _, ok := strings.Cut(line, " ")
	if major, minor, isDevice := strings.Cut(key, ":"); !ok || !isDevice || major == "" || minor == "" {
		return ""
	}
	return key
}

// unifiedReset undoes a line of a keyed file whose device had none before.
func unifiedReset(file, line string) string {
	switch key := unifiedKey(line); {
	case key == "":
		return ""
	case file == "io.max":
		return key + " rbps=max wbps=max riops=max wiops=max"
	case file == "io.latency":
		return key + " target=0"
	case file == "io.weight", file == "io.bfq.weight":
		return key + " default"
	}
	return ""
}
