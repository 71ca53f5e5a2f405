package cgroup

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// UnitManager is systemd as this package needs it; isolators/cgroup/systemd
// implements it over D-Bus.
type UnitManager interface {
	// StartScope makes a scope, with a process of its own in it that keeps it alive
	// until release is called: systemd refuses empty scopes, and drops one that
	// becomes empty. It returns once systemd has made the control group.
	StartScope(ctx context.Context, u Unit) (release func() error, err error)
	// StartSlice makes a slice, which may stay empty.
	StartSlice(ctx context.Context, u Unit) error
	// SetProperties changes properties of a running unit until the next boot.
	SetProperties(ctx context.Context, name string, properties []Property) error
	// Stop ends a unit and what runs in it. It is a no-op for an unknown one.
	Stop(ctx context.Context, name string) error
}

// Unit is a transient unit.
type Unit struct {
	Name        string // with its suffix, .scope or .slice
	Slice       string // the slice it is in
	Description string
	Properties  []Property
}

// Property is a property of a unit (org.freedesktop.systemd1(5)). Value is a
// uint64, bool, string or []byte.
type Property struct {
	Name  string
	Value any
}

// infinity is systemd's "no limit" (CGROUP_LIMIT_MAX).
const infinity = ^uint64(0)

// placeholders are what keeps the scopes of containers alive that are being
// launched by this process.
type placeholders struct {
	mu sync.Mutex
	by map[containerizer.ContainerID]func() error
}

func (p *placeholders) hold(id containerizer.ContainerID, release func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.by == nil {
		p.by = map[containerizer.ContainerID]func() error{}
	}
	p.by[id] = release
}

// release lets go of the one of id, if there is one.
func (p *placeholders) release(id containerizer.ContainerID) error {
	p.mu.Lock()
	release := p.by[id]
	delete(p.by, id)
	p.mu.Unlock()
	if release == nil {
		return nil
	}
	return release()
}

// wantsUnit is whether c gets a unit of its own. A container below another one is
// a plain directory in that one's scope, which systemd has delegated to us, unless
// it names a slice.
func (i *Isolator) wantsUnit(c *containerizer.Container) bool {
	return c.Parent == nil || c.Spec.CgroupParent != "" || c.Parent.Spec.Class == containerizer.ClassPodSandbox && c.Parent.Spec.CgroupParent == ""
}

// unitOf names c's unit: a scope, or for a pod sandbox that no slice was made for
// yet, a slice that its children's scopes are in.
func (i *Isolator) unitOf(c *containerizer.Container) (Unit, error) {
	u := Unit{Slice: i.parent, Description: "berth container " + c.ID.String()}
	escaped := strings.ReplaceAll(escapeElement(c.ID.String()), ".", "-")
	switch {
	case c.Spec.CgroupParent != "":
		u.Slice = c.Spec.CgroupParent
		u.Name = "berth-" + escapeElement(c.ID.Base()) + ".scope"
	case c.Spec.Class == containerizer.ClassPodSandbox:
		u.Name = strings.TrimSuffix(i.parent, ".slice") + "-" + escaped + ".slice"
	case c.Parent != nil:
		parent, err := i.unitOf(c.Parent)
		if err != nil {
			return Unit{}, err
		}
		u.Slice, u.Name = parent.Name, "berth-"+escaped+".scope"
	default:
		u.Name = "berth-" + escaped + ".scope"
	}
	if len(u.Name) > 255 {
		return Unit{}, fmt.Errorf("container id %q makes the unit name %d bytes long, systemd takes 255: %w", c.ID, len(u.Name), containerizer.ErrInvalid)
	}
	_, err := slicePath(u.Slice)
	return u, err
}

// escapeElement makes an id part of a unit name (systemd.unit(5)): what is not
// allowed there, or separates names, becomes \xHH.
func escapeElement(s string) string {
	var b strings.Builder
	for _, r := range []byte(s) {
		switch {
		case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r == ':', r == '_', r == '.':
			b.WriteByte(r)
		default:
			fmt.Fprintf(&b, `\x%02x`, r)
		}
	}
	return b.String()
}

// slicePath is the control group of a slice: a-b-c.slice is within a-b.slice
// within a.slice (systemd.slice(5)).
func slicePath(name string) (string, error) {
	stem, ok := strings.CutSuffix(name, ".slice")
	if name == "-.slice" {
		return "/", nil
	}
	if !ok || stem == "" || strings.ContainsAny(name, "/\n\x00") || strings.HasPrefix(stem, "-") || strings.HasSuffix(stem, "-") || strings.Contains(stem, "--") {
		return "", fmt.Errorf("cgroup parent %q is not the name of a slice, such as machine.slice, which the systemd driver needs: %w", name, containerizer.ErrInvalid)
	}
	p := ""
	for at, r := range stem {
		if r == '-' {
			p += "/" + stem[:at] + ".slice"
		}
	}
	return p + "/" + name, nil
}

// prepareUnit has systemd make c's group, and sets on it what systemd has no
// property for.
func (i *Isolator) prepareUnit(ctx context.Context, c *containerizer.Container, p *plan) (*containerizer.LaunchInfo, error) {
	u, err := i.unitOf(c)
	if err != nil {
		return nil, err
	}
	slice, err := slicePath(u.Slice)
	if err != nil {
		return nil, err
	}
	isSlice := strings.HasSuffix(u.Name, ".slice")
	g := group{path: path.Join(slice, u.Name)}
	u.Properties = unitProperties(&c.Spec.Resources.Linux)
	if err := c.Ledger.Acquire(kindUnit, u.Name); err != nil {
		return nil, err
	}
	if err := c.Ledger.Acquire(kindGroup, g.path); err != nil {
		return nil, err
	}
	dir := g.in(&i.node.hierarchies[0])
	if exists(dir) {
		err := fmt.Errorf("the control group %q of unit %q is there already: %w", g.path, u.Name, containerizer.ErrAlreadyExists)
		return nil, errors.Join(err, c.Ledger.Release(kindUnit, u.Name), c.Ledger.Release(kindGroup, g.path))
	}
	if isSlice {
		err = i.units.StartSlice(ctx, u)
	} else {
		var release func() error
		if release, err = i.units.StartScope(ctx, u); err == nil {
			i.launching.hold(c.ID, release)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("start unit %q: %w", u.Name, err)
	}
	if err := i.mark(dir, c.ID); err != nil {
		return nil, err
	}
	if err := i.set(g, p.settings); err != nil {
		return nil, err
	}
	if p.devices && !p.allDevices {
		if err := attachNewDevices(dir, p.deviceRules); err != nil {
			return nil, err
		}
	}
	if isSlice {
		return nil, nil
	}
	if err := delegate(c, dir); err != nil {
		return nil, err
	}
	return &containerizer.LaunchInfo{Cgroup: i.attachment(g), Barrier: true}, nil
}

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

// stopUnits ends the units that c's ledger lists.
func (i *Isolator) stopUnits(ctx context.Context, c *containerizer.Container) error {
	names := c.Ledger.Held(kindUnit)
	if len(names) > 0 && i.units == nil {
		return fmt.Errorf("container %q has the systemd unit %q, which only an isolator with the systemd driver can release: %w", c.ID, names[0], containerizer.ErrFailedPrecondition)
	}
	for _, name := range names {
		// Stopping a unit signals its processes and waits; there should be none.
		if g, ok := held(c); ok {
			if err := i.killTree(ctx, g.in(&i.node.hierarchies[0])); err != nil {
				return err
			}
		}
		if err := i.units.Stop(ctx, name); err != nil {
			return fmt.Errorf("stop unit %q: %w", name, err)
		}
		if err := c.Ledger.Release(kindUnit, name); err != nil {
			return err
		}
	}
	return nil
}

// updateUnit tells systemd of new limits of c's unit, if it has one.
func (i *Isolator) updateUnit(ctx context.Context, c *containerizer.Container, r *containerizer.Resources) error {
	names := c.Ledger.Held(kindUnit)
	properties := unitProperties(&r.Linux)
	if i.units == nil || len(names) == 0 || len(properties) == 0 {
		return nil
	}
	if err := i.units.SetProperties(ctx, names[0], properties); err != nil {
		return fmt.Errorf("change unit %q: %w", names[0], err)
	}
	return nil
}
