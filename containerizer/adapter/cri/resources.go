package cri

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// resources are limits in the runtime specification's form. What is zero is not set.
func resources(r *runtimeapi.LinuxContainerResources) specs.LinuxResources {
	var out specs.LinuxResources
	cpu := specs.LinuxCPU{Cpus: r.GetCpusetCpus(), Mems: r.GetCpusetMems()}
	if v := r.GetCpuPeriod(); v > 0 {
		period := uint64(v)
		cpu.Period = &period
	}
	if v := r.GetCpuQuota(); v != 0 {
		cpu.Quota = &v
	}
	if v := r.GetCpuShares(); v > 0 {
		shares := uint64(v)
		cpu.Shares = &shares
	}
	if cpu != (specs.LinuxCPU{Cpus: "", Mems: ""}) {
		out.CPU = &cpu
	}
	var memory specs.LinuxMemory
	if v := r.GetMemoryLimitInBytes(); v != 0 {
		memory.Limit = &v
	}
	if v := r.GetMemorySwapLimitInBytes(); v != 0 {
		memory.Swap = &v
	}
	if memory != (specs.LinuxMemory{}) {
		out.Memory = &memory
	}
	for _, h := range r.GetHugepageLimits() {
		out.HugepageLimits = append(out.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: h.GetPageSize(), Limit: h.GetLimit()})
	}
	out.Unified = r.GetUnified()
	return out
}

// applied is the other way round: the limits of a container as they stand.
func applied(r *specs.LinuxResources, oomScore *int) *runtimeapi.ContainerResources {
	out := &runtimeapi.LinuxContainerResources{Unified: r.Unified}
	if c := r.CPU; c != nil {
		out.CpusetCpus, out.CpusetMems = c.Cpus, c.Mems
		out.CpuPeriod, out.CpuShares, out.CpuQuota = signed(c.Period), signed(c.Shares), value(c.Quota)
	}
	if m := r.Memory; m != nil {
		out.MemoryLimitInBytes, out.MemorySwapLimitInBytes = value(m.Limit), value(m.Swap)
	}
	if oomScore != nil {
		out.OomScoreAdj = int64(*oomScore)
	}
	for _, h := range r.HugepageLimits {
		out.HugepageLimits = append(out.HugepageLimits, &runtimeapi.HugepageLimit{PageSize: h.Pagesize, Limit: h.Limit})
	}
	return &runtimeapi.ContainerResources{Linux: out}
}

func value(v *int64) int64 {
	if v == nil {
		return 0
	}
	return *v
}

func signed(v *uint64) int64 {
	if v == nil {
		return 0
	}
	return int64(*v) //nolint:gosec // it was one
}
