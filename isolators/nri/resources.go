package nri

import (
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/nri/pkg/api"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// overlay sets what is given in r in place of what is in to. What to points to is not
// written to.
func overlay(to *specs.LinuxResources, r *api.LinuxResources) error {
	if r == nil {
		return nil
	}
	if r.GetBlockioClass() != nil || r.GetRdtClass() != nil {
		return fmt.Errorf("classes of block I/O and RDT: %w", containerizer.ErrUnsupported)
	}
	in := r.ToOCI()
	overlayMemory(to, in.Memory)
	overlayCPU(to, in.CPU)
	if r.GetPids() != nil && r.GetPids().GetLimit() != 0 {
		limit := r.GetPids().GetLimit()
		to.Pids = &specs.LinuxPids{Limit: &limit}
	}
	for _, h := range in.HugepageLimits {
		to.HugepageLimits = slices.Clone(to.HugepageLimits)
		to.HugepageLimits = slices.DeleteFunc(to.HugepageLimits, func(o specs.LinuxHugepageLimit) bool { return o.Pagesize == h.Pagesize })
		to.HugepageLimits = append(to.HugepageLimits, h)
	}
	if len(in.Unified) > 0 {
		unified := maps.Clone(to.Unified)
		if unified == nil {
			unified = map[string]string{}
		}
		maps.Copy(unified, in.Unified)
		to.Unified = unified
	}
	if len(in.Devices) > 0 {
		to.Devices = append(slices.Clone(to.Devices), in.Devices...)
	}
	return nil
}

func overlayMemory(to *specs.LinuxResources, m *specs.LinuxMemory) {
	if m == nil || *m == (specs.LinuxMemory{}) {
		return
	}
	var out specs.LinuxMemory
	if to.Memory != nil {
		out = *to.Memory
	}
	set(&out.Limit, m.Limit)
	set(&out.Reservation, m.Reservation)
	set(&out.Swap, m.Swap)
	set(&out.Kernel, m.Kernel) //nolint:staticcheck // deprecated, still accepted
	set(&out.KernelTCP, m.KernelTCP)
	set(&out.Swappiness, m.Swappiness)
	set(&out.DisableOOMKiller, m.DisableOOMKiller)
	set(&out.UseHierarchy, m.UseHierarchy)
	to.Memory = &out
}

func overlayCPU(to *specs.LinuxResources, c *specs.LinuxCPU) {
	if c == nil || *c == (specs.LinuxCPU{}) {
		return
	}
	var out specs.LinuxCPU
	if to.CPU != nil {
		out = *to.CPU
	}
	set(&out.Shares, c.Shares)
	set(&out.Quota, c.Quota)
	set(&out.Period, c.Period)
	set(&out.RealtimeRuntime, c.RealtimeRuntime)
	set(&out.RealtimePeriod, c.RealtimePeriod)
	if c.Cpus != "" {
		out.Cpus = c.Cpus
	}
	if c.Mems != "" {
		out.Mems = c.Mems
	}
	to.CPU = &out
}

// set is for fields of which nil says nothing.
func set[T any](to **T, value *T) {
	if value != nil {
		*to = value
	}
}
