package specflag

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/containerizer"
)

// ResourceFlags are the flags that limit a container; `berth update` has them
// too. Limits not given stay unset.
type ResourceFlags struct {
	memory, memoryReservation, memorySwap bytesValue
	memorySwappiness                      int64
	oomKillDisable                        bool
	cpus                                  string
	cpuShares                             uint64
	cpuPeriod                             uint64
	cpuQuota                              int64
	cpuRTPeriod                           uint64
	cpuRTRuntime                          int64
	cpusetCPUs, cpusetMems                string
	pidsLimit                             int64
	blkioWeight                           uint16
	blkioWeightDevices                    []string
	readBps, writeBps, readIOPS, writeIOP []string

	resourceSet *pflag.FlagSet
}

// Register adds the flags to set.
func (f *ResourceFlags) Register(set *pflag.FlagSet) {
	f.resourceSet = set
	set.VarP(&f.memory, "memory", "m", "memory limit")
	set.Var(&f.memoryReservation, "memory-reservation", "memory soft limit")
	set.Var(&f.memorySwap, "memory-swap", "limit of memory and swap together; -1 is unlimited swap")
	set.Int64Var(&f.memorySwappiness, "memory-swappiness", -1, "how eagerly the container's memory is swapped (0 to 100)")
	set.BoolVar(&f.oomKillDisable, "oom-kill-disable", false, "let the container wait instead of killing it when out of memory")
	set.StringVar(&f.cpus, "cpus", "", "`number` of CPUs, such as 1.5")
	set.Uint64VarP(&f.cpuShares, "cpu-shares", "c", 0, "relative CPU weight")
	set.Uint64Var(&f.cpuPeriod, "cpu-period", 0, "CFS period in `microseconds`")
	set.Int64Var(&f.cpuQuota, "cpu-quota", 0, "CFS quota in `microseconds` a period")
	set.Uint64Var(&f.cpuRTPeriod, "cpu-rt-period", 0, "real-time period in `microseconds`")
	set.Int64Var(&f.cpuRTRuntime, "cpu-rt-runtime", 0, "real-time runtime in `microseconds` a period")
	set.StringVar(&f.cpusetCPUs, "cpuset-cpus", "", "`CPUs` that may be used (0-3, 0,1)")
	set.StringVar(&f.cpusetMems, "cpuset-mems", "", "memory `nodes` that may be used (0-3, 0,1)")
	set.Int64Var(&f.pidsLimit, "pids-limit", 0, "`number` of processes and threads; -1 is unlimited")
	set.Uint16Var(&f.blkioWeight, "blkio-weight", 0, "relative block I/O weight (10 to 1000)")
	list(set, &f.blkioWeightDevices, "blkio-weight-device", "", "relative block I/O weight on a device (`DEVICE:WEIGHT`)")
	list(set, &f.readBps, "device-read-bps", "", "limit reading from a device, bytes a second (`DEVICE:RATE`)")
	list(set, &f.writeBps, "device-write-bps", "", "limit writing to a device, bytes a second (`DEVICE:RATE`)")
	list(set, &f.readIOPS, "device-read-iops", "", "limit reading from a device, operations a second (`DEVICE:RATE`)")
	list(set, &f.writeIOP, "device-write-iops", "", "limit writing to a device, operations a second (`DEVICE:RATE`)")
}

// Given says whether any of the flags was given.
func (f *ResourceFlags) Given() bool {
	var own pflag.FlagSet
	(&ResourceFlags{}).Register(&own)
	given := false
	f.resourceSet.Visit(func(flag *pflag.Flag) { given = given || own.Lookup(flag.Name) != nil })
	return given
}

// Apply sets the limits in r.
func (f *ResourceFlags) Apply(host Host, r *containerizer.Resources) error {
	steps := []func(*specs.LinuxResources) error{
		f.applyMemory, f.applyCPU,
		func(l *specs.LinuxResources) error { return f.applyBlockIO(host, l) },
	}
	for _, step := range steps {
		if err := step(&r.Linux); err != nil {
			return err
		}
	}
	if f.resourceSet.Changed("pids-limit") {
		if f.pidsLimit < -1 {
			return invalidf("--pids-limit %d: a number of processes, or -1 for no limit", f.pidsLimit)
		}
		limit := f.pidsLimit
		if limit == 0 { // Docker: 0 and -1 are no limit
			limit = -1
		}
		r.Linux.Pids = &specs.LinuxPids{Limit: &limit}
	}
	return nil
}

func (f *ResourceFlags) applyMemory(r *specs.LinuxResources) error {
	changed := f.resourceSet.Changed
	var m specs.LinuxMemory
	limit, swap, reservation := int64(f.memory), int64(f.memorySwap), int64(f.memoryReservation)
	if limit < 0 || reservation < 0 {
		return invalidf("--memory and --memory-reservation are sizes; leave them out for no limit")
	}
	if limit > 0 {
		m.Limit = &limit
	}
	if reservation > 0 {
		if limit > 0 && reservation > limit {
			return invalidf("--memory-reservation %d is more than --memory %d", reservation, limit)
		}
		m.Reservation = &reservation
	}
	if swap != 0 {
		switch {
		case swap > 0 && limit == 0 && f.resourceSet.Lookup("name") != nil:
			return invalidf("--memory-swap is memory and swap together: say --memory too")
		case swap > 0 && swap < limit:
			return invalidf("--memory-swap %d is memory and swap together, so at least --memory %d", swap, limit)
		}
		m.Swap = &swap
	}
	if changed("memory-swappiness") && f.memorySwappiness != -1 {
		if f.memorySwappiness < 0 || f.memorySwappiness > 100 {
			return invalidf("--memory-swappiness %d is not within 0 and 100", f.memorySwappiness)
		}
		v := uint64(f.memorySwappiness)
		m.Swappiness = &v
	}
	if f.oomKillDisable {
		m.DisableOOMKiller = &f.oomKillDisable
	}
	if m != (specs.LinuxMemory{}) {
		r.Memory = &m
	}
	return nil
}

// limitSwap gives a container with limited memory as much swap again unless it was
// told otherwise, as Docker does.
func limitSwap(host Host, s *containerizer.Spec) error {
	m := s.Resources.Linux.Memory
	if m == nil || m.Limit == nil || m.Swap != nil || *m.Limit > math.MaxInt64/2 || !host.LimitsSwap() {
		return nil
	}
	both := *m.Limit * 2
	m.Swap = &both
	return nil
}

func (f *ResourceFlags) applyCPU(r *specs.LinuxResources) error {
	c := specs.LinuxCPU{Cpus: f.cpusetCPUs, Mems: f.cpusetMems}
	changed := f.resourceSet.Changed
	if f.cpus != "" {
		if changed("cpu-period") || changed("cpu-quota") {
			return invalidf("--cpus and --cpu-period or --cpu-quota set the same limit: use one form")
		}
		const period = 100_000
		n, err := strconv.ParseFloat(f.cpus, 64)
		// 1 ms is the smallest quota the kernel takes.
		if err != nil || math.IsNaN(n) || n < 0.01 || n > 1e6 {
			return invalidf("--cpus %q is not a number of CPUs, such as 0.5 or 2", f.cpus)
		}
		p, q := uint64(period), int64(math.Round(n*period))
		c.Period, c.Quota = &p, &q
	}
	if f.cpuShares > 0 {
		c.Shares = &f.cpuShares
	}
	if f.cpuPeriod > 0 {
		c.Period = &f.cpuPeriod
	}
	if f.cpuQuota != 0 {
		c.Quota = &f.cpuQuota
	}
	if f.cpuRTPeriod > 0 {
		c.RealtimePeriod = &f.cpuRTPeriod
	}
	if f.cpuRTRuntime != 0 {
		c.RealtimeRuntime = &f.cpuRTRuntime
	}
	if c != (specs.LinuxCPU{}) {
		r.CPU = &c
	}
	return nil
}

func (f *ResourceFlags) applyBlockIO(host Host, r *specs.LinuxResources) error {
	var b specs.LinuxBlockIO
	given := false
	if f.blkioWeight > 0 {
		if err := checkWeight("--blkio-weight", uint64(f.blkioWeight)); err != nil {
			return err
		}
		b.Weight, given = &f.blkioWeight, true
	}
	for _, v := range f.blkioWeightDevices {
		major, minor, weight, err := deviceAmount(host, "--blkio-weight-device", v, parseCount)
		if err != nil {
			return err
		}
		if err := checkWeight("--blkio-weight-device "+v, weight); err != nil {
			return err
		}
		w := uint16(weight)
		d := specs.LinuxWeightDevice{Weight: &w}
		d.Major, d.Minor = major, minor
		b.WeightDevice = append(b.WeightDevice, d)
	}
	for _, t := range []struct {
		flag   string
		values []string
		parse  func(string) (uint64, error)
		out    *[]specs.LinuxThrottleDevice
	}{
		{"--device-read-bps", f.readBps, parseRate, &b.ThrottleReadBpsDevice},
		{"--device-write-bps", f.writeBps, parseRate, &b.ThrottleWriteBpsDevice},
		{"--device-read-iops", f.readIOPS, parseCount, &b.ThrottleReadIOPSDevice},
		{"--device-write-iops", f.writeIOP, parseCount, &b.ThrottleWriteIOPSDevice},
	} {
		for _, v := range t.values {
			major, minor, rate, err := deviceAmount(host, t.flag, v, t.parse)
			if err != nil {
				return err
			}
			d := specs.LinuxThrottleDevice{Rate: rate}
			d.Major, d.Minor = major, minor
			*t.out = append(*t.out, d)
			given = true
		}
	}
	if given || len(b.WeightDevice) > 0 {
		r.BlockIO = &b
	}
	return nil
}

func checkWeight(flag string, w uint64) error {
	if w < 10 || w > 1000 {
		return invalidf("%s: weight %d is not within 10 and 1000", flag, w)
	}
	return nil
}

// deviceAmount parses "DEVICE:AMOUNT".
func deviceAmount(host Host, flag, v string, parse func(string) (uint64, error)) (major, minor int64, amount uint64, err error) {
	i := strings.LastIndexByte(v, ':')
	if i <= 0 || v[0] != '/' {
		return 0, 0, 0, invalidf("%s %q is not DEVICE:NUMBER with the path of a device", flag, v)
	}
	if amount, err = parse(v[i+1:]); err != nil {
		return 0, 0, 0, invalidf("%s %q: %v", flag, v, err)
	}
	if major, minor, err = host.DeviceNumber(v[:i]); err != nil {
		return 0, 0, 0, invalidf("%s %q: %v", flag, v, err)
	}
	return major, minor, amount, nil
}

func parseCount(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	return n, nil
}

func parseRate(s string) (uint64, error) {
	n, err := parseBytes(s)
	if err == nil && n < 0 {
		err = fmt.Errorf("%q is not a size", s)
	}
	return uint64(max(n, 0)), err
}
