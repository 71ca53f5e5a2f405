package cgroup

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// The forms that control files have (cgroup-v2.rst, "Format"). What does not
// parse is ErrDataCorrupt: no kernel writes it.

func corrupt(what, content string) error {
	if len(content) > 64 {
		content = content[:64] + "…"
	}
	return fmt.Errorf("%q is not %s: %w", content, what, containerizer.ErrDataCorrupt)
}

// noLimit is where version 1 puts "no limit": the most bytes of whole pages, with
// pages of up to 64 KiB.
const noLimit = math.MaxInt64 &^ (64<<10 - 1)

// parseLimit reads one number; no limit ("max", -1, version 1's largest) is 0.
func parseLimit(s string) (uint64, error) {
	s = strings.TrimSpace(s)
	if s == "max" || s == "-1" {
		return 0, nil
	}
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, corrupt("a number", s)
	}
	if v >= noLimit {
		return 0, nil
	}
	return v, nil
}

// parsePIDs reads the pids of a cgroup.procs file. 0 stands for processes outside
// of this process's pid namespace; they are left out.
func parsePIDs(s string) ([]int, error) {
	if s == "" {
		return nil, nil
	}
	list := make([]int, 0, strings.Count(s, "\n")+1)
	for line := range strings.Lines(s) {
		pid, err := strconv.ParseUint(strings.TrimSuffix(line, "\n"), 10, 31)
		if err != nil {
			return nil, corrupt("a list of pids", line)
		}
		if pid != 0 {
			list = append(list, int(pid))
		}
	}
	return list, nil
}

// parseFlat reads lines "KEY NUMBER" and calls set for each.
func parseFlat(s string, set func(key string, v uint64)) error {
	for line := range strings.SplitSeq(s, "\n") {
		if line == "" {
			continue
		}
		key, number, _ := strings.Cut(line, " ")
		v, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			return corrupt("a line KEY NUMBER", line)
		}
		set(key, v)
	}
	return nil
}

// perDevice adds up block I/O by device.
type perDevice []containerizer.DeviceIO

// of returns the entry of device MAJ:MIN; nil for what is none, such as a sum.
func (d *perDevice) of(name string) *containerizer.DeviceIO {
	major, minor, isPair := strings.Cut(name, ":")
	maj, err := strconv.ParseUint(major, 10, 32)
	if err != nil || !isPair {
		return nil
	}
	m, err := strconv.ParseUint(minor, 10, 32)
	if err != nil {
		return nil
	}
	for i := range *d {
		if one := &(*d)[i]; one.Major == uint32(maj) && one.Minor == uint32(m) {
			return one
		}
	}
	*d = append(*d, containerizer.DeviceIO{Major: uint32(maj), Minor: uint32(m)})
	return &(*d)[len(*d)-1]
}

// usage is that of all of them.
func (d perDevice) usage() containerizer.IOUsage {
	var u containerizer.IOUsage
	for _, one := range d {
		u.ReadBytes, u.WriteBytes = u.ReadBytes+one.ReadBytes, u.WriteBytes+one.WriteBytes
		u.Reads, u.Writes = u.Reads+one.Reads, u.Writes+one.Writes
		if one.ReadBytes+one.WriteBytes+one.Reads+one.Writes > 0 {
			u.Devices = append(u.Devices, one)
		}
	}
	return u
}

// parseIOStat reads io.stat, "MAJ:MIN rbytes=1 wbytes=2 rios=3 wios=4 …".
func parseIOStat(s string) (perDevice, error) {
	var d perDevice
	for line := range strings.SplitSeq(s, "\n") {
		name, rest, _ := strings.Cut(line, " ")
		one := d.of(name)
		if one == nil {
			continue
		}
		for field := range strings.FieldsSeq(rest) {
			key, number, isPair := strings.Cut(field, "=")
			var to *uint64
			switch key {
			case "rbytes":
				to = &one.ReadBytes
			case "wbytes":
				to = &one.WriteBytes
			case "rios":
				to = &one.Reads
			case "wios":
				to = &one.Writes
			}
			if to == nil || !isPair {
				continue // what only some kernels count
			}
			v, err := strconv.ParseUint(number, 10, 64)
			if err != nil {
				return d, corrupt("a line of io.stat", line)
			}
			*to += v
		}
	}
	return d, nil
}

// parseBlkioStat reads the "MAJ:MIN Read 1" lines of a version 1 blkio file, and calls
// set for each.
func parseBlkioStat(s string, set func(device, operation string, v uint64)) error {
	for line := range strings.SplitSeq(s, "\n") {
		var fields [4]string
		n := 0
		for f := range strings.FieldsSeq(line) {
			if n < len(fields) {
				fields[n] = f
			}
			n++
		}
		if n != 3 {
			continue // empty, or the sum "Total 3" in the end
		}
		v, err := strconv.ParseUint(fields[2], 10, 64)
		if err != nil {
			return corrupt("a line of blkio statistics", line)
		}
		set(fields[0], fields[1], v)
	}
	return nil
}

// parsePressure reads pressure stall information: lines
// "some avg10=0.00 avg60=0.00 avg300=0.00 total=0".
func parsePressure(s string) (*containerizer.Pressure, error) {
	p := new(containerizer.Pressure)
	for line := range strings.SplitSeq(s, "\n") {
		if line == "" {
			continue
		}
		kind, rest, _ := strings.Cut(line, " ")
		var to *containerizer.PressureLine
		switch kind {
		case "some":
			to = &p.Some
		case "full":
			to = &p.Full
		default:
			return nil, corrupt("a line of pressure", line)
		}
		if err := parsePressureLine(rest, to); err != nil {
			return nil, corrupt("a line of pressure", line)
		}
	}
	return p, nil
}

func parsePressureLine(s string, to *containerizer.PressureLine) error {
	for field := range strings.FieldsSeq(s) {
		key, value, _ := strings.Cut(field, "=")
		if key == "total" {
			us, err := strconv.ParseUint(value, 10, 53)
			if err != nil {
				return err
			}
			to.Total = time.Duration(us) * time.Microsecond
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return err
		}
		switch key {
		case "avg10":
			to.Avg10 = v
		case "avg60":
			to.Avg60 = v
		case "avg300":
			to.Avg300 = v
		}
	}
	return nil
}
