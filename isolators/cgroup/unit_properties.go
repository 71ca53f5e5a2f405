package cgroup

import specs "github.com/opencontainers/runtime-spec/specs-go"

// unitProperties are the limits that systemd keeps itself: it writes its own
// values again when it is reloaded, so it has to know ours.
func unitProperties(r *specs.LinuxResources) []Property {
	var p []Property
	limit := func(name string, v *int64) {
		switch {
		case v == nil || *v == 0:
		case *v == -1:
			p = append(p, Property{name, infinity})
		default:
			p = append(p, Property{name, uint64(*v)})
		}
	}
	if m := r.Memory; m != nil {
		limit("MemoryMax", m.Limit)
		limit("MemoryLow", m.Reservation)
		if m.Swap != nil && m.Limit != nil && *m.Swap > 0 && *m.Limit > 0 {
			p = append(p, Property{"MemorySwapMax", uint64(max(*m.Swap-*m.Limit, 0))})
		} else if m.Swap != nil && *m.Swap == -1 {
			limit("MemorySwapMax", m.Swap)
		}
	}
	if r.Pids != nil {
		limit("TasksMax", r.Pids.Limit)
	}
	return append(p, unitCPU(r.CPU)...)
}

func unitCPU(r *specs.LinuxCPU) []Property {
	if r == nil {
		return nil
	}
	var p []Property
	if r.Shares != nil && *r.Shares != 0 {
		p = append(p, Property{"CPUWeight", weightOfShares(*r.Shares)})
	}
	period := uint64(100000)
	if r.Period != nil && *r.Period != 0 {
		period = *r.Period
		p = append(p, Property{"CPUQuotaPeriodUSec", period})
	}
	if r.Quota != nil {
		perSecond := infinity
		if *r.Quota > 0 {
			// systemd takes whole percents only (src/core/cgroup.c, cgroup_context_apply).
			perSecond = (uint64(*r.Quota)*1000000/period + 9999) / 10000 * 10000
		}
		p = append(p, Property{"CPUQuotaPerSecUSec", perSecond})
	}
	for _, set := range []struct{ name, list string }{{"AllowedCPUs", r.Cpus}, {"AllowedMemoryNodes", r.Mems}} {
		if set.list != "" {
			p = append(p, Property{set.name, bitmap(set.list)})
		}
	}
	return p
}

// bitmap is a list such as "0-3,8" as systemd wants it, lowest first. The list was
// checked.
func bitmap(list string) []byte {
	var bits []byte
	for _, n := range expandList(list) {
		for len(bits) <= n/8 {
			bits = append(bits, 0)
		}
		bits[n/8] |= 1 << (n % 8)
	}
	return bits
}
