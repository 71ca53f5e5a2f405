package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// Update implements [containerizer.Control]. Of a container that has exited only
// the record changes: it counts at the next start.
func (e *Engine) Update(ctx context.Context, id containerizer.ContainerID, r *containerizer.Resources) error {
	if r == nil {
		return fmt.Errorf("update container %q: no resources: %w", id, containerizer.ErrInvalid)
	}
	if err := validateResources(r); err != nil {
		return fmt.Errorf("update container %q: %w", id, err)
	}
	if err := e.ready(ctx); err != nil {
		return err
	}
	content, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("update container %q: encode the resources: %w: %w", id, err, containerizer.ErrInvalid)
	}
	_, _, err = e.do(ctx, id, opUpdate, string(content), func(ctx context.Context, op *operation) error {
		return e.updateOp(ctx, op, r)
	})
	return err
}

func (e *Engine) updateOp(ctx context.Context, op *operation, r *containerizer.Resources) error {
	e.step(op, "update.lock")
	h, l, err := e.holdLoaded(ctx, op.id)
	if err != nil {
		return fmt.Errorf("update: %w", err)
	}
	defer h.unlock()
	live := l.st.State.Alive() && e.ended(l) == nil
	if !live && l.st.State != containerizer.StateExited {
		return fmt.Errorf("update container %q: it is %s or has just ended: %w", l.id, l.st.State, containerizer.ErrFailedPrecondition)
	}
	if err := e.settleCutOff(ctx, h, l); err != nil {
		return err
	}
	old := l.spec.Resources
	if live {
		if r, err = e.adjustUpdate(ctx, h, l, r); err != nil {
			return fmt.Errorf("update container %q: %w", l.id, err)
		}
		mark := ledgerEntry{ownEntries, kindOp, string(opUpdate)}
		if err := h.ledger.add(mark); err != nil {
			return err
		}
		e.step(op, "update.act")
		if err := e.updateIsolators(ctx, h, l, r, old); err != nil {
			return errors.Join(fmt.Errorf("update container %q: %w", l.id, err), h.ledger.drop(mark))
		}
		defer func() { _ = h.ledger.drop(mark) }() // settled by the next change otherwise
	}
	e.step(op, "update.state")
	merged := overlayResources(old, r)
	l.st.Resources = &merged
	if err := e.saveAll(l); err != nil {
		return err
	}
	e.event(l.id, nil, containerizer.EventUpdated)
	return nil
}

// updateIsolators applies r everywhere, or takes it back where it was applied.
func (e *Engine) updateIsolators(ctx context.Context, h *held, l *loaded, r *containerizer.Resources, old containerizer.Resources) error {
	c := e.container(l)
	for i, iso := range e.isolators {
		u, is := iso.(containerizer.Updater)
		if !is {
			continue
		}
		err := u.Update(ctx, forIsolator(c, h, iso.Name()), r)
		if err == nil {
			continue
		}
		err = fmt.Errorf("isolator %q: %w", iso.Name(), err)
		back := inverseResources(old, r)
		uctx, cancel := e.detached(ctx)
		defer cancel()
		for _, done := range slices.Backward(e.isolators[:i]) {
			if u, is := done.(containerizer.Updater); is {
				if uerr := u.Update(uctx, forIsolator(c, h, done.Name()), &back); uerr != nil {
					err = errors.Join(err, fmt.Errorf("take the update of isolator %q back: %w", done.Name(), uerr))
				}
			}
		}
		return err
	}
	return nil
}

// over returns change unless it is the zero value.
func over[T comparable](old, change T) T {
	var zero T
	if change == zero {
		return old
	}
	return change
}

func overSlice[T any](old, change []T) []T {
	if change == nil {
		return old
	}
	return change
}

// overlayResources is old with the fields that r sets.
func overlayResources(old containerizer.Resources, r *containerizer.Resources) containerizer.Resources {
	out := old
	out.DiskBytes = over(old.DiskBytes, r.DiskBytes)
	n, in := &out.Linux, &r.Linux
	n.Devices = overSlice(n.Devices, in.Devices)
	n.HugepageLimits = overSlice(n.HugepageLimits, in.HugepageLimits)
	n.Network, n.Pids = over(n.Network, in.Network), over(n.Pids, in.Pids)
	if in.BlockIO != nil {
		n.BlockIO = overlayBlockIO(n.BlockIO, in.BlockIO)
	}
	if in.Rdma != nil {
		n.Rdma = maps.Clone(n.Rdma)
		if n.Rdma == nil {
			n.Rdma = map[string]specs.LinuxRdma{}
		}
		maps.Copy(n.Rdma, in.Rdma)
	}
	if in.Unified != nil {
		n.Unified = maps.Clone(n.Unified)
		if n.Unified == nil {
			n.Unified = map[string]string{}
		}
		maps.Copy(n.Unified, in.Unified)
	}
	if in.Memory != nil {
		n.Memory = overlayMemory(n.Memory, in.Memory)
	}
	if in.CPU != nil {
		n.CPU = overlayCPU(n.CPU, in.CPU)
	}
	return out
}

func overlayMemory(old, in *specs.LinuxMemory) *specs.LinuxMemory {
	var m specs.LinuxMemory
	if old != nil {
		m = *old
	}
	m.Limit, m.Reservation, m.Swap = over(m.Limit, in.Limit), over(m.Reservation, in.Reservation), over(m.Swap, in.Swap)
	m.Kernel, m.KernelTCP = over(m.Kernel, in.Kernel), over(m.KernelTCP, in.KernelTCP) //nolint:staticcheck // deprecated, still accepted
	m.Swappiness, m.DisableOOMKiller = over(m.Swappiness, in.Swappiness), over(m.DisableOOMKiller, in.DisableOOMKiller)
	m.UseHierarchy, m.CheckBeforeUpdate = over(m.UseHierarchy, in.UseHierarchy), over(m.CheckBeforeUpdate, in.CheckBeforeUpdate)
	return &m
}

func overlayCPU(old, in *specs.LinuxCPU) *specs.LinuxCPU {
	var c specs.LinuxCPU
	if old != nil {
		c = *old
	}
	c.Shares, c.Quota, c.Burst, c.Period = over(c.Shares, in.Shares), over(c.Quota, in.Quota), over(c.Burst, in.Burst), over(c.Period, in.Period)
	c.RealtimeRuntime, c.RealtimePeriod = over(c.RealtimeRuntime, in.RealtimeRuntime), over(c.RealtimePeriod, in.RealtimePeriod)
	c.Cpus, c.Mems, c.Idle = over(c.Cpus, in.Cpus), over(c.Mems, in.Mems), over(c.Idle, in.Idle)
	return &c
}

func overlayBlockIO(old, in *specs.LinuxBlockIO) *specs.LinuxBlockIO {
	var b specs.LinuxBlockIO
	if old != nil {
		b = *old
	}
	b.Weight, b.LeafWeight = over(b.Weight, in.Weight), over(b.LeafWeight, in.LeafWeight)
	b.WeightDevice = overSlice(b.WeightDevice, in.WeightDevice)
	b.ThrottleReadBpsDevice = overSlice(b.ThrottleReadBpsDevice, in.ThrottleReadBpsDevice)
	b.ThrottleWriteBpsDevice = overSlice(b.ThrottleWriteBpsDevice, in.ThrottleWriteBpsDevice)
	b.ThrottleReadIOPSDevice = overSlice(b.ThrottleReadIOPSDevice, in.ThrottleReadIOPSDevice)
	b.ThrottleWriteIOPSDevice = overSlice(b.ThrottleWriteIOPSDevice, in.ThrottleWriteIOPSDevice)
	return &b
}

// unlimited are the values that mean "as without a limit", for limits that were
// not set before an update that is taken back. What has no such value (cpusets,
// weights of devices) stays as the update left it.
func unlimited() containerizer.Resources {
	none, shares, period := int64(-1), uint64(1024), uint64(100_000)
	return containerizer.Resources{Linux: specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: &none, Reservation: &none, Swap: &none},
		CPU:    &specs.LinuxCPU{Shares: &shares, Quota: &none, Period: &period},
		Pids:   &specs.LinuxPids{Limit: &none},
	}}
}

// inverseResources sets what r sets back to old.
func inverseResources(old containerizer.Resources, r *containerizer.Resources) containerizer.Resources {
	def := unlimited()
	was := overlayResources(def, &old)
	var back containerizer.Resources
	if r.DiskBytes != 0 {
		back.DiskBytes = old.DiskBytes
	}
	if in := r.Linux.Memory; in != nil {
		back.Linux.Memory = keepSet(in, was.Linux.Memory)
	}
	if in := r.Linux.CPU; in != nil {
		back.Linux.CPU = keepSet(in, was.Linux.CPU)
	}
	if r.Linux.Pids != nil {
		back.Linux.Pids = was.Linux.Pids
	}
	if r.Linux.BlockIO != nil {
		back.Linux.BlockIO = was.Linux.BlockIO
	}
	if r.Linux.HugepageLimits != nil {
		back.Linux.HugepageLimits = was.Linux.HugepageLimits
	}
	if r.Linux.Unified != nil {
		back.Linux.Unified = was.Linux.Unified
	}
	if r.Linux.Devices != nil {
		back.Linux.Devices = was.Linux.Devices
	}
	return back
}

// keepSet returns the fields of from whose namesakes in mask are set, by way of
// their JSON forms, in which an unset field is absent.
func keepSet[T any](mask, from *T) *T {
	var m, f map[string]json.RawMessage
	var out T
	for v, into := range map[*T]*map[string]json.RawMessage{mask: &m, from: &f} {
		b, err := json.Marshal(v)
		if err == nil {
			err = json.Unmarshal(b, into)
		}
		if err != nil {
			return &out // numbers and strings always encode
		}
	}
	maps.DeleteFunc(f, func(k string, _ json.RawMessage) bool { return m[k] == nil })
	b, err := json.Marshal(f)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		return new(T)
	}
	return &out
}
