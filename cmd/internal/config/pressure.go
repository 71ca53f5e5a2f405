package config

import (
	"errors"
	"fmt"

	"github.com/docker/go-units"
)

// Pressure says when the node is short of memory or disk, and what berthd does then.
type Pressure struct {
	// MemoryAvailable is a size ("100m"): with less memory available the node is under
	// memory pressure; "" is 100 MiB, as the kubelet's.
	MemoryAvailable string `toml:"memory_available"`
	// DiskAvailable is a share ("10%"): with less of the file system of Root available, of
	// bytes or of inodes, the node is under disk pressure; "" is 10 %.
	DiskAvailable string `toml:"disk_available"`
	// RefuseLaunches refuses new containers under memory pressure.
	RefuseLaunches bool `toml:"refuse_launches"`
}

// Defaults are the kubelet's.
const (
	defaultMemoryAvailable = 100 << 20
	defaultDiskAvailable   = 10
)

// Thresholds returns bytes of memory and percent of disk.
func (p *Pressure) Thresholds() (memory uint64, disk int, err error) {
	memory, disk = defaultMemoryAvailable, defaultDiskAvailable
	if p.MemoryAvailable != "" {
		n, err := size("pressure.memory_available", p.MemoryAvailable)
		if err != nil {
			return 0, 0, err
		}
		memory = uint64(n)
	}
	if p.DiskAvailable != "" {
		disk, err = percent("pressure.disk_available", p.DiskAvailable)
	}
	return memory, disk, err
}

// size parses "100m".
func size(key, s string) (int64, error) {
	n, err := units.RAMInBytes(s)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%s = %q is not a size, such as 100m", key, s)
	}
	return n, nil
}

// leastMemory is what a daemon needs to do anything.
const leastMemory = 32 << 20

// Limits returns the bound of the daemon's memory, 0 for none, and of calls in progress.
func (d *Daemon) Limits() (memory int64, calls int, err error) {
	const defaultCalls = 10000
	if d.MemoryLimit != "" {
		if memory, err = size("daemon.memory_limit", d.MemoryLimit); err != nil {
			return 0, 0, err
		}
		if memory < leastMemory {
			return 0, 0, fmt.Errorf("daemon.memory_limit = %q is less than 32m", d.MemoryLimit)
		}
	}
	switch {
	case d.MaxCalls < 0:
		return 0, 0, errors.New("daemon.max_calls is not negative")
	case d.MaxCalls == 0:
		return memory, defaultCalls, nil
	}
	return memory, d.MaxCalls, nil
}
