package cri

import (
	"fmt"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// optional is a value that may be missing.
func optional(v *uint64) []sample {
	if v == nil {
		return nil
	}
	return one(*v)
}

// orNone is a limit, 0 being none.
func orNone(limit *uint64) uint64 {
	if limit == nil {
		return 0
	}
	return *limit
}

// nodeFS is the file system of images and writable layers, and the names of block
// devices, for one round of metrics.
type nodeFS struct {
	// device is what the file system is on; "" when it could not be asked.
	device string
	stat   unix.Statfs_t
	names  map[[2]uint32]string
}

// newNodeFS asks for the file system of our own folder.
func newNodeFS(dir string) *nodeFS {
	n := &nodeFS{names: map[[2]uint32]string{}}
	var st unix.Stat_t
	if unix.Stat(dir, &st) == nil && unix.Statfs(dir, &n.stat) == nil {
		n.device = n.name(unix.Major(st.Dev), unix.Minor(st.Dev))
	}
	return n
}

// name is that of a block device in /dev, or its numbers where there is no device behind
// them.
func (n *nodeFS) name(major, minor uint32) string {
	key := [2]uint32{major, minor}
	name, has := n.names[key]
	if !has {
		name = fmt.Sprintf("%d:%d", major, minor)
		if target, err := os.Readlink("/sys/dev/block/" + name); err == nil {
			name = "/dev/" + path.Base(target)
		}
		n.names[key] = name
	}
	return name
}

func blockIO(f func(*containerizer.DeviceIO) uint64) func(*measured, item) []sample {
	return func(u *measured, _ item) []sample {
		if u.IO == nil {
			return nil
		}
		var out []sample
		for n := range u.IO.Devices {
			d := &u.IO.Devices[n]
			out = append(out, sample{[]string{u.node.name(d.Major, d.Minor)}, f(d)})
		}
		return out
	}
}

// deviceUsage is blockIO in the other form that there is.
func deviceUsage(u *measured, _ item) []sample {
	if u.IO == nil {
		return nil
	}
	var out []sample
	for _, d := range u.IO.Devices {
		device := []string{u.node.name(d.Major, d.Minor), strconv.FormatUint(uint64(d.Major), 10), strconv.FormatUint(uint64(d.Minor), 10)}
		out = append(out, sample{append(device[:3:3], "Read"), d.ReadBytes}, sample{append(device[:3:3], "Write"), d.WriteBytes})
	}
	return out
}

// disk is a value of the file system.
func disk(f func(*unix.Statfs_t) uint64) func(*measured, item) []sample {
	return func(u *measured, _ item) []sample {
		if u.node.device == "" {
			return nil
		}
		return []sample{{[]string{u.node.device}, f(&u.node.stat)}}
	}
}

// diskMetrics are those of the writable layer, and of what it is on.
func diskMetrics() []metric {
	device := []string{"device"}
	return []metric{
		{"container_blkio_device_usage_total", "Bytes by block device and operation.", []string{"device", "major", "minor", "operation"}, true, false, deviceUsage},
		{"container_fs_inodes_free", "Free inodes of the file system of the writable layer.", device, false, false, disk(func(s *unix.Statfs_t) uint64 { return s.Ffree })},
		{"container_fs_inodes_total", "Inodes of the file system of the writable layer.", device, false, false, disk(func(s *unix.Statfs_t) uint64 { return s.Files })},
		{"container_fs_limit_bytes", "Size of the file system of the writable layer.", device, false, false, disk(func(s *unix.Statfs_t) uint64 {
			return s.Blocks * uint64(max(s.Bsize, 0)) //nolint:gosec // not negative
		})},
		{"container_fs_usage_bytes", "What the container has written.", device, false, false, func(u *measured, _ item) []sample {
			if u.Disk == nil || u.node.device == "" {
				return nil
			}
			return []sample{{[]string{u.node.device}, u.Disk.Bytes}}
		}},
	}
}

// pressureMetrics are stalls, where the kernel measures them.
func pressureMetrics() []metric {
	stalled := func(of func(*measured) *containerizer.Pressure, line func(*containerizer.Pressure) containerizer.PressureLine) func(*measured, item) []sample {
		return func(u *measured, _ item) []sample {
			p := of(u)
			if p == nil {
				return nil
			}
			return one(seconds(line(p).Total))
		}
	}
	var out []metric
	for _, r := range []struct {
		name string
		of   func(*measured) *containerizer.Pressure
	}{
		{"cpu", func(u *measured) *containerizer.Pressure {
			if u.CPU == nil {
				return nil
			}
			return u.CPU.Pressure
		}},
		{"memory", func(u *measured) *containerizer.Pressure {
			if u.Memory == nil {
				return nil
			}
			return u.Memory.Pressure
		}},
		{"io", func(u *measured) *containerizer.Pressure {
			if u.IO == nil {
				return nil
			}
			return u.IO.Pressure
		}},
	} {
		out = append(
			out,
			metric{
				"container_pressure_" + r.name + "_waiting_seconds_total", "Time in which some of it waited for " + r.name + ", in seconds.", nil, true, false,
				stalled(r.of, func(p *containerizer.Pressure) containerizer.PressureLine { return p.Some }),
			},
			metric{
				"container_pressure_" + r.name + "_stalled_seconds_total", "Time in which all of it waited for " + r.name + ", in seconds.", nil, true, false,
				stalled(r.of, func(p *containerizer.Pressure) containerizer.PressureLine { return p.Full }),
			},
		)
	}
	return out
}
