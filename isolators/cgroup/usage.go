package cgroup

import (
	"context"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// Usage implements containerizer.UsageReporter: processor time, memory, I/O and
// process counts of c and everything below it. A container that shares its
// parent's group is not measured.
func (i *Isolator) Usage(_ context.Context, c *containerizer.Container, u *containerizer.Usage) error {
	if c.Spec != nil && c.Spec.ShareCgroup {
		return nil
	}
	g, err := i.own(c, "usage")
	if err != nil {
		return err
	}
	r := statReader{node: &i.node, group: g, files: &i.statistics}
	u.At = time.Now()
	if i.node.unified {
		r.unified(u)
	} else {
		r.legacy(u)
	}
	return r.err
}

// statReader reads the statistics of one group. The first error sticks; files
// that the kernel does not have are none.
type statReader struct {
	node  *node
	group group
	files *statistics
	err   error
}

// text returns the content of a file of controller c, "" when it is not there.
func (r *statReader) text(c controller, file string) string {
	h := r.node.of(c)
	if h == nil || r.err != nil {
		return ""
	}
	s, err := r.files.read(r.group.in(h), file)
	// PSI that is switched off answers EOPNOTSUPP.
	if err != nil && !isAny(err, unix.ENOENT, unix.EOPNOTSUPP, unix.ENODEV) {
		r.err = err
	}
	return s
}

// check keeps the first error.
func (r *statReader) check(err error) {
	if r.err == nil {
		r.err = err
	}
}

// number reads a file with one number; 0 when it is not there, or says no limit.
func (r *statReader) number(c controller, file string) uint64 {
	s := r.text(c, file)
	if s == "" {
		return 0
	}
	v, err := parseLimit(s)
	r.check(err)
	return v
}

// limit reads a file with one number; is says that it is there and a limit, which 0 may be.
func (r *statReader) limit(c controller, file string) (v uint64, is bool) {
	s := r.text(c, file)
	if s == "" {
		return 0, false
	}
	v, err := parseLimit(s)
	r.check(err)
	return v, err == nil && (v > 0 || strings.TrimSpace(s) == "0")
}

// flat reads a file of lines KEY NUMBER.
func (r *statReader) flat(c controller, file string, set func(key string, v uint64)) {
	r.check(parseFlat(r.text(c, file), set))
}

func (r *statReader) pressure(c controller, file string) *containerizer.Pressure {
	s := r.text(c, file)
	if s == "" {
		return nil
	}
	p, err := parsePressure(s)
	r.check(err)
	return p
}

// unified fills u from a version 2 group.
func (r *statReader) unified(u *containerizer.Usage) {
	u.CPU = &containerizer.CPUUsage{Pressure: r.pressure(cpuacct, "cpu.pressure")}
	r.flat(cpuacct, "cpu.stat", func(key string, v uint64) {
		switch key {
		case "usage_usec":
			u.CPU.Total = time.Duration(v) * time.Microsecond
		case "user_usec":
			u.CPU.User = time.Duration(v) * time.Microsecond
		case "system_usec":
			u.CPU.System = time.Duration(v) * time.Microsecond
		case "nr_periods":
			u.CPU.Periods = v
		case "nr_throttled":
			u.CPU.ThrottledPeriods = v
		case "throttled_usec":
			u.CPU.Throttled = time.Duration(v) * time.Microsecond
		}
	})
	if r.node.of(memory) != nil {
		u.Memory = r.unifiedMemory()
	}
	if r.node.of(blkio) != nil {
		d, err := parseIOStat(r.text(blkio, "io.stat"))
		r.check(err)
		io := d.usage()
		io.Pressure = r.pressure(blkio, "io.pressure")
		u.IO = &io
	}
	if r.node.of(pids) != nil {
		u.PIDs = &containerizer.PIDsUsage{Current: r.number(pids, "pids.current"), Limit: r.number(pids, "pids.max")}
	}
}

func (r *statReader) unifiedMemory() *containerizer.MemoryUsage {
	m := &containerizer.MemoryUsage{
		Bytes:      r.number(memory, "memory.current"),
		PeakBytes:  r.number(memory, "memory.peak"),
		LimitBytes: r.number(memory, "memory.max"),
		SwapBytes:  r.number(memory, "memory.swap.current"),
		Pressure:   r.pressure(memory, "memory.pressure"),
	}
	if limit, is := r.limit(memory, "memory.swap.max"); is {
		m.SwapLimitBytes = &limit
	}
	var inactive uint64
	r.flat(memory, "memory.stat", func(key string, v uint64) {
		switch key {
		case "anon":
			m.RSSBytes = v
		case "file":
			m.CacheBytes = v
		case "file_mapped":
			m.MappedFileBytes = v
		case "kernel": // Linux 5.18
			kernel := v // not v, which would be on the heap for each line
			m.KernelBytes = &kernel
		case "inactive_file":
			inactive = v
		case "pgfault":
			m.PageFaults = v
		case "pgmajfault":
			m.MajorPageFaults = v
		}
	})
	r.flat(memory, "memory.events", func(key string, v uint64) {
		switch key {
		case "oom_kill":
			m.OOMKills = v
		case "max":
			m.LimitHits = v
		}
	})
	m.WorkingSetBytes = m.Bytes - min(m.Bytes, inactive)
	return m
}

// legacy fills u from version 1 groups. memory.stat and the blkio files have
// hierarchical counterparts of each number; the others are so anyway.
func (r *statReader) legacy(u *containerizer.Usage) {
	if r.node.of(cpuacct) != nil {
		u.CPU = &containerizer.CPUUsage{
			Total:  time.Duration(r.number(cpuacct, "cpuacct.usage")),
			User:   time.Duration(r.number(cpuacct, "cpuacct.usage_user")),
			System: time.Duration(r.number(cpuacct, "cpuacct.usage_sys")),
		}
		r.flat(cpu, "cpu.stat", func(key string, v uint64) {
			switch key {
			case "nr_periods":
				u.CPU.Periods = v
			case "nr_throttled":
				u.CPU.ThrottledPeriods = v
			case "throttled_time":
				u.CPU.Throttled = time.Duration(v)
			}
		})
	}
	if r.node.of(memory) != nil {
		u.Memory = r.legacyMemory()
	}
	if r.node.of(blkio) != nil {
		u.IO = r.legacyIO()
	}
	if r.node.of(pids) != nil {
		u.PIDs = &containerizer.PIDsUsage{Current: r.number(pids, "pids.current"), Limit: r.number(pids, "pids.max")}
	}
}

func (r *statReader) legacyMemory() *containerizer.MemoryUsage {
	m := &containerizer.MemoryUsage{
		Bytes:      r.number(memory, "memory.usage_in_bytes"),
		PeakBytes:  r.number(memory, "memory.max_usage_in_bytes"),
		LimitBytes: r.number(memory, "memory.limit_in_bytes"),
		LimitHits:  r.number(memory, "memory.failcnt"),
	}
	if s := r.text(memory, "memory.kmem.usage_in_bytes"); s != "" {
		v, err := parseLimit(s)
		r.check(err)
		m.KernelBytes = &v
	}
	// Version 1 bounds memory and swap together.
	if both, is := r.limit(memory, "memory.memsw.limit_in_bytes"); is && m.LimitBytes > 0 {
		limit := both - min(both, m.LimitBytes)
		m.SwapLimitBytes = &limit
	}
	var inactive uint64
	r.flat(memory, "memory.stat", func(key string, v uint64) {
		switch key {
		case "total_rss":
			m.RSSBytes = v
		case "total_cache":
			m.CacheBytes = v
		case "total_swap":
			m.SwapBytes = v
		case "total_mapped_file":
			m.MappedFileBytes = v
		case "total_inactive_file":
			inactive = v
		case "total_pgfault":
			m.PageFaults = v
		case "total_pgmajfault":
			m.MajorPageFaults = v
		}
	})
	r.flat(memory, "memory.oom_control", func(key string, v uint64) {
		if key == "oom_kill" {
			m.OOMKills = v
		}
	})
	m.WorkingSetBytes = m.Bytes - min(m.Bytes, inactive)
	return m
}

func (r *statReader) legacyIO() *containerizer.IOUsage {
	var d perDevice
	r.check(parseBlkioStat(r.text(blkio, "blkio.throttle.io_service_bytes_recursive"), func(device, operation string, v uint64) {
		switch one := d.of(device); {
		case one == nil:
		case operation == "Read":
			one.ReadBytes += v
		case operation == "Write":
			one.WriteBytes += v
		}
	}))
	r.check(parseBlkioStat(r.text(blkio, "blkio.throttle.io_serviced_recursive"), func(device, operation string, v uint64) {
		switch one := d.of(device); {
		case one == nil:
		case operation == "Read":
			one.Reads += v
		case operation == "Write":
			one.Writes += v
		}
	}))
	io := d.usage()
	return &io
}
