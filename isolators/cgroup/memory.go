package cgroup

import (
	"fmt"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// minMemory is the least limit taken: below it not even the launch succeeds, and
// a forgotten unit ("128" for "128m") is told at once.
const minMemory = 512 << 10

func (i *Isolator) planMemory(p *plan, r *specs.LinuxMemory) error {
	if r == nil {
		return nil
	}
	if err := checkMemory(r); err != nil {
		return err
	}
	if err := checkLegacyMemory(r); i.node.unified && err != nil {
		return err
	}
	m := normalMemory(r)
	var some plan
	some.current = p.current
	var err error
	if i.node.unified {
		err = planMemoryUnified(&some, m)
	} else {
		err = planMemoryLegacy(&some, m)
	}
	if err != nil || len(some.settings) == 0 {
		return err
	}
	if i.node.of(memory) == nil {
		return i.node.missing(memory, "memory")
	}
	p.settings = append(p.settings, some.settings...)
	if check := r.CheckBeforeUpdate; p.current != nil && check != nil && *check && m.Limit != nil {
		return i.checkUsage(p, *m.Limit)
	}
	return nil
}

// normalMemory is r with nil for what stays as it is.
func normalMemory(r *specs.LinuxMemory) *specs.LinuxMemory {
	m := *r
	if m.Limit != nil && *m.Limit == 0 {
		m.Limit = nil
	}
	if m.Swap != nil && *m.Swap == 0 {
		m.Swap = nil
	}
	if m.Limit != nil && *m.Limit == -1 && m.Swap == nil {
		m.Swap = m.Limit // no bound on the part, none on the whole
	}
	return &m
}

// kernelLimit is memory.kernel, which is deprecated, and honoured where the kernel
// still does.
func kernelLimit(r *specs.LinuxMemory) *int64 {
	return r.Kernel //nolint:staticcheck // see above
}

func planMemoryLegacy(p *plan, r *specs.LinuxMemory) error {
	if r.Swap != nil && *r.Swap != -1 && r.Limit == nil && p.current == nil {
		return swapWithoutLimit(*r.Swap, 0)
	}
	bytes := func(field, file string, v *int64, lax bool) {
		if v != nil {
			p.add(setting{field: field, controller: memory, file: file, value: strconv.FormatInt(*v, 10), lax: lax})
		}
	}
	bytes("memory.limit", "memory.limit_in_bytes", r.Limit, false)
	// Kernels without swap accounting cannot bound swap; no bound is what they do.
	bytes("memory.swap", "memory.memsw.limit_in_bytes", r.Swap, r.Swap != nil && *r.Swap == -1)
	if r.Reservation != nil && *r.Reservation != 0 {
		bytes("memory.reservation", "memory.soft_limit_in_bytes", r.Reservation, false)
	}
	if k := kernelLimit(r); k != nil && *k != 0 {
		bytes("memory.kernel", "memory.kmem.limit_in_bytes", k, *k == -1)
	}
	if r.KernelTCP != nil && *r.KernelTCP != 0 {
		bytes("memory.kernelTCP", "memory.kmem.tcp.limit_in_bytes", r.KernelTCP, *r.KernelTCP == -1)
	}
	if r.Swappiness != nil {
		p.add(setting{field: "memory.swappiness", controller: memory, file: "memory.swappiness", value: strconv.FormatUint(*r.Swappiness, 10)})
	}
	if r.DisableOOMKiller != nil {
		v := "0"
		if *r.DisableOOMKiller {
			v = "1"
		}
		p.add(setting{field: "memory.disableOOMKiller", controller: memory, file: "memory.oom_control", value: v, key: "oom_kill_disable", bare: true, lax: !*r.DisableOOMKiller})
	}
	return nil
}

func planMemoryUnified(p *plan, r *specs.LinuxMemory) error {
	if r.Limit != nil {
		p.add(setting{field: "memory.limit", controller: memory, file: "memory.max", value: maxOr(*r.Limit)})
	}
	if r.Swap != nil {
		swap, err := swapMax(p, r)
		if err != nil {
			return err
		}
		p.add(setting{field: "memory.swap", controller: memory, file: "memory.swap.max", value: swap, lax: swap == "max" || swap == "0"})
	}
	if r.Reservation != nil && *r.Reservation != 0 {
		low := maxOr(*r.Reservation)
		if low == "max" {
			low = "0" // version 1's "no soft limit" protects nothing
		}
		p.add(setting{field: "memory.reservation", controller: memory, file: "memory.low", value: low})
	}
	return nil
}

// swapMax is memory.swap.max: what the specification calls swap is memory and
// swap together, as version 1 counts.
func swapMax(p *plan, r *specs.LinuxMemory) (string, error) {
	if *r.Swap == -1 {
		return "max", nil
	}
	limit := int64(0)
	switch {
	case r.Limit != nil:
		limit = *r.Limit
	case p.current != nil:
		now, err := p.current(memory, "memory.max")
		if err != nil {
			return "", err
		}
		v, err := parseLimit(now)
		if err != nil {
			return "", err
		}
		limit = int64(v)
	}
	if limit <= 0 || *r.Swap < limit {
		return "", swapWithoutLimit(*r.Swap, limit)
	}
	return strconv.FormatInt(*r.Swap-limit, 10), nil
}

func swapWithoutLimit(swap, limit int64) error {
	return fmt.Errorf("memory.swap %d is memory and swap together, so it needs a memory.limit of at most as much; that is %d: %w", swap, limit, containerizer.ErrInvalid)
}

func maxOr(v int64) string {
	if v == -1 {
		return "max"
	}
	return strconv.FormatInt(v, 10)
}

func checkMemory(r *specs.LinuxMemory) error {
	for _, f := range []struct {
		name string
		v    *int64
		min  int64
	}{
		{"memory.limit", r.Limit, minMemory},
		{"memory.swap", r.Swap, minMemory},
		{"memory.reservation", r.Reservation, 1},
		{"memory.kernel", kernelLimit(r), 1},
		{"memory.kernelTCP", r.KernelTCP, 1},
	} {
		if f.v != nil && *f.v != 0 && *f.v != -1 && *f.v < f.min {
			return fmt.Errorf("%s %d is less than %d bytes (-1: no limit, 0: as it is): %w", f.name, *f.v, f.min, containerizer.ErrInvalid)
		}
	}
	set := func(v *int64) bool { return v != nil && *v != 0 }
	switch {
	case set(r.Swap) && set(r.Limit) && *r.Swap != -1 && (*r.Limit == -1 || *r.Swap < *r.Limit):
		return fmt.Errorf("memory.swap %d is memory and swap together and cannot be less than memory.limit %d: %w", *r.Swap, *r.Limit, containerizer.ErrInvalid)
	case set(r.Reservation) && set(r.Limit) && *r.Limit != -1 && *r.Reservation > *r.Limit:
		return fmt.Errorf("memory.reservation %d cannot be more than memory.limit %d: %w", *r.Reservation, *r.Limit, containerizer.ErrInvalid)
	case r.Swappiness != nil && *r.Swappiness > 100:
		return fmt.Errorf("memory.swappiness %d is outside 0 to 100: %w", *r.Swappiness, containerizer.ErrInvalid)
	case r.UseHierarchy != nil && !*r.UseHierarchy:
		return fmt.Errorf("memory.useHierarchy false: this kernel always accounts hierarchically: %w", containerizer.ErrUnsupported)
	}
	return nil
}

// checkLegacyMemory refuses what exists with version 1 only.
func checkLegacyMemory(r *specs.LinuxMemory) error {
	set := func(v *int64) bool { return v != nil && *v != 0 }
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"memory.kernel", set(kernelLimit(r)) && *kernelLimit(r) != -1},
		{"memory.kernelTCP", set(r.KernelTCP) && *r.KernelTCP != -1},
		{"memory.swappiness", r.Swappiness != nil},
		{"memory.disableOOMKiller", r.DisableOOMKiller != nil && *r.DisableOOMKiller},
	} {
		if f.set {
			return fmt.Errorf("%s exists with cgroup version 1 only: %w", f.name, containerizer.ErrUnsupported)
		}
	}
	return nil
}

// checkUsage refuses a limit below what is used now (memory.checkBeforeUpdate).
func (i *Isolator) checkUsage(p *plan, limit int64) error {
	file := "memory.usage_in_bytes"
	if i.node.unified {
		file = "memory.current"
	}
	s, err := p.current(memory, file)
	if err != nil {
		return err
	}
	used, err := parseLimit(s)
	if err != nil {
		return err
	}
	if limit > 0 && used > uint64(limit) {
		return fmt.Errorf("memory.limit %d is less than the %d bytes in use: %w", limit, used, containerizer.ErrFailedPrecondition)
	}
	return nil
}
