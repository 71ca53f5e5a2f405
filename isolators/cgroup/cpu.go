package cgroup

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

const (
	minShares, maxShares = 2, 262144     // kernel/sched: MIN_SHARES, MAX_SHARES
	minQuota             = 1000          // µs; kernel/sched: min_cfs_quota_period
	minPeriod, maxPeriod = 1000, 1000000 // µs
)

// planCPU adds time limits; cpuset.go has the processors.
func (i *Isolator) planCPU(p *plan, r *specs.LinuxCPU) error {
	if r == nil {
		return nil
	}
	if err := checkCPU(r); err != nil {
		return err
	}
	if r.Shares == nil && r.Quota == nil && r.Period == nil && r.Burst == nil && r.Idle == nil && r.RealtimePeriod == nil && r.RealtimeRuntime == nil {
		return nil
	}
	if i.node.of(cpu) == nil {
		return i.node.missing(cpu, "cpu")
	}
	if r.Idle != nil {
		p.add(setting{field: "cpu.idle", controller: cpu, file: "cpu.idle", value: strconv.FormatInt(*r.Idle, 10), lax: *r.Idle == 0})
	}
	if i.node.unified {
		return planCPUUnified(p, r)
	}
	if r.Shares != nil && *r.Shares != 0 && !isIdle(r) {
		p.add(setting{field: "cpu.shares", controller: cpu, file: "cpu.shares", value: strconv.FormatUint(*r.Shares, 10)})
	}
	if r.RealtimePeriod != nil && *r.RealtimePeriod != 0 {
		p.add(setting{field: "cpu.realtimePeriod", controller: cpu, file: "cpu.rt_period_us", value: strconv.FormatUint(*r.RealtimePeriod, 10)})
	}
	if r.RealtimeRuntime != nil {
		p.add(setting{field: "cpu.realtimeRuntime", controller: cpu, file: "cpu.rt_runtime_us", value: strconv.FormatInt(*r.RealtimeRuntime, 10), lax: *r.RealtimeRuntime == 0})
	}
	if r.Period != nil && *r.Period != 0 {
		p.add(setting{field: "cpu.period", controller: cpu, file: "cpu.cfs_period_us", value: strconv.FormatUint(*r.Period, 10)})
	}
	if r.Quota != nil {
		quota := *r.Quota
		if quota == 0 {
			quota = -1
		}
		p.add(setting{field: "cpu.quota", controller: cpu, file: "cpu.cfs_quota_us", value: strconv.FormatInt(quota, 10)})
	}
	if r.Burst != nil {
		p.add(setting{field: "cpu.burst", controller: cpu, file: "cpu.cfs_burst_us", value: strconv.FormatUint(*r.Burst, 10), lax: *r.Burst == 0})
	}
	return nil
}

func planCPUUnified(p *plan, r *specs.LinuxCPU) error {
	if (r.RealtimePeriod != nil && *r.RealtimePeriod != 0) || (r.RealtimeRuntime != nil && *r.RealtimeRuntime != 0) {
		return fmt.Errorf("cpu.realtimePeriod and cpu.realtimeRuntime exist with cgroup version 1 only: %w", containerizer.ErrUnsupported)
	}
	if r.Shares != nil && *r.Shares != 0 && !isIdle(r) {
		p.add(setting{field: "cpu.shares", controller: cpu, file: "cpu.weight", value: strconv.FormatUint(weightOfShares(*r.Shares), 10)})
	}
	if r.Quota != nil || (r.Period != nil && *r.Period != 0) {
		v, err := cpuMax(p, r)
		if err != nil {
			return err
		}
		p.add(setting{field: "cpu.quota", controller: cpu, file: "cpu.max", value: v})
	}
	if r.Burst != nil {
		p.add(setting{field: "cpu.burst", controller: cpu, file: "cpu.max.burst", value: strconv.FormatUint(*r.Burst, 10), lax: *r.Burst == 0})
	}
	return nil
}

// cpuMax is the content of cpu.max, "QUOTA PERIOD". A period alone keeps the
// quota that is set.
func cpuMax(p *plan, r *specs.LinuxCPU) (string, error) {
	quota := "max"
	switch {
	case r.Quota != nil && *r.Quota > 0:
		quota = strconv.FormatInt(*r.Quota, 10)
	case r.Quota == nil && p.current != nil:
		now, err := p.current(cpu, "cpu.max")
		if err != nil {
			return "", err
		}
		quota, _, _ = strings.Cut(now, " ")
	}
	if r.Period == nil || *r.Period == 0 {
		return quota, nil // the period stays
	}
	return quota + " " + strconv.FormatUint(*r.Period, 10), nil
}

func isIdle(r *specs.LinuxCPU) bool { return r.Idle != nil && *r.Idle == 1 }

func checkCPU(r *specs.LinuxCPU) error {
	switch {
	case r.Shares != nil && *r.Shares != 0 && (*r.Shares < minShares || *r.Shares > maxShares):
		return fmt.Errorf("cpu.shares %d is outside %d to %d (0: as it is): %w", *r.Shares, minShares, maxShares, containerizer.ErrInvalid)
	case r.Quota != nil && *r.Quota != 0 && *r.Quota != -1 && *r.Quota < minQuota:
		return fmt.Errorf("cpu.quota %d µs is less than the %d µs that the kernel takes (-1: no limit): %w", *r.Quota, minQuota, containerizer.ErrInvalid)
	case r.Period != nil && *r.Period != 0 && (*r.Period < minPeriod || *r.Period > maxPeriod):
		return fmt.Errorf("cpu.period %d µs is outside %d to %d: %w", *r.Period, minPeriod, maxPeriod, containerizer.ErrInvalid)
	case r.Burst != nil && *r.Burst != 0 && r.Quota != nil && (*r.Quota <= 0 || *r.Burst > uint64(*r.Quota)):
		return fmt.Errorf("cpu.burst %d µs needs a cpu.quota of at least as much, it is %d: %w", *r.Burst, *r.Quota, containerizer.ErrInvalid)
	case r.Idle != nil && *r.Idle != 0 && *r.Idle != 1:
		return fmt.Errorf("cpu.idle %d is neither 0 nor 1: %w", *r.Idle, containerizer.ErrInvalid)
	}
	return nil
}

// weightOfShares converts cpu.shares to cpu.weight such that the minima, the
// defaults (1024, 100) and the maxima of both meet. It is the conversion that
// runc, crun and the kubelet use since 2025
// (https://github.com/opencontainers/cgroups, ConvertCPUSharesToCgroupV2Value).
func weightOfShares(shares uint64) uint64 {
	switch {
	case shares <= minShares:
		return 1
	case shares >= maxShares:
		return 10000
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}
