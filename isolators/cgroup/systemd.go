package cgroup

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"

	"github.com/berth-dev/berth/containerizer"
)

// UnitManager is systemd as this package needs it; isolators/cgroup/systemd
// implements it over D-Bus.
type UnitManager interface {
	// StartScope makes a scope with a keeper in it, and returns once systemd has made
	// the control group.
	StartScope(ctx context.Context, u Unit) (*Keeper, error)
	// StartSlice makes a slice, which may stay empty.
	StartSlice(ctx context.Context, u Unit) error
	// SetProperties changes properties of a running unit until the next boot.
	SetProperties(ctx context.Context, name string, properties []Property) error
	// Stop ends a unit and what runs in it. It is a no-op for an unknown one.
	Stop(ctx context.Context, name string) error
}

// Keeper is a process that keeps a scope alive until the container's process is in
// it: systemd refuses empty scopes, and drops one that becomes empty.
type Keeper struct {
	PID int
	// Release ends the process and returns when it is gone. It is idempotent.
	Release func() error
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

// keepers are those of the containers that this process is launching.
type keepers struct {
	mu sync.Mutex
	by map[containerizer.ContainerID]*Keeper
}

func (k *keepers) add(id containerizer.ContainerID, keeper *Keeper) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.by == nil {
		k.by = map[containerizer.ContainerID]*Keeper{}
	}
	k.by[id] = keeper
}

// without is list less the keeper of id, which is no process of the container's.
func (k *keepers) without(id containerizer.ContainerID, list []int) []int {
	k.mu.Lock()
	defer k.mu.Unlock()
	keeper := k.by[id]
	if keeper == nil {
		return list
	}
	return slices.DeleteFunc(list, func(pid int) bool { return pid == keeper.PID })
}

// release lets go of the one of id, if there is one.
func (k *keepers) release(id containerizer.ContainerID) error {
	k.mu.Lock()
	keeper := k.by[id]
	delete(k.by, id)
	k.mu.Unlock()
	if keeper == nil {
		return nil
	}
	return keeper.Release()
}

// prepareUnit has systemd make c's groups, and sets what systemd has no property
// for.
func (i *Isolator) prepareUnit(ctx context.Context, c *containerizer.Container, p *plan) (*containerizer.LaunchInfo, error) {
	name, parent, err := i.sliceOf(c)
	if err != nil {
		return nil, err
	}
	scope, err := scopeOf(c)
	if err != nil {
		return nil, err
	}
	where, err := slicePath(name)
	if err != nil {
		return nil, err
	}
	slice := Unit{Name: name, Slice: parent, Description: "berth container " + c.ID.String()}
	limits := unitProperties(&c.Spec.Resources.Linux)
	sandbox := c.Spec.Class == containerizer.ClassPodSandbox
	g := group{path: path.Join(where, scope)}
	if sandbox {
		g.path, slice.Properties = where, limits
	}
	if err := i.startSlice(ctx, c, slice, where, g); err != nil {
		return nil, err
	}
	if sandbox {
		return nil, i.set(g, p.settings)
	}
	return i.startScope(ctx, c, Unit{Name: scope, Slice: name, Description: slice.Description, Properties: limits}, g, p)
}

// startSlice makes a slice that does not exist, and marks it as c's.
func (i *Isolator) startSlice(ctx context.Context, c *containerizer.Container, u Unit, where string, g group) error {
	if err := c.Ledger.Acquire(kindUnit, u.Name); err != nil {
		return err
	}
	if err := c.Ledger.Acquire(kindGroup, g.path); err != nil {
		return err
	}
	dir := i.node.hierarchies[0].dir + where
	if exists(dir) {
		err := fmt.Errorf("the control group %q of unit %q is there already: %w", where, u.Name, containerizer.ErrAlreadyExists)
		return errors.Join(err, c.Ledger.Release(kindUnit, u.Name), c.Ledger.Release(kindGroup, g.path))
	}
	if err := i.units.StartSlice(ctx, u); err != nil {
		return fmt.Errorf("start unit %q: %w", u.Name, err)
	}
	return i.mark(dir, c.ID)
}

// startScope makes the scope that c's process is to be cloned into.
func (i *Isolator) startScope(ctx context.Context, c *containerizer.Container, u Unit, g group, p *plan) (*containerizer.LaunchInfo, error) {
	if err := c.Ledger.Acquire(kindUnit, u.Name); err != nil {
		return nil, err
	}
	keeper, err := i.units.StartScope(ctx, u)
	if err != nil {
		return nil, fmt.Errorf("start unit %q: %w", u.Name, err)
	}
	i.launching.add(c.ID, keeper)
	dir := g.in(&i.node.hierarchies[0])
	if err := i.mark(dir, c.ID); err != nil {
		return nil, err
	}
	if p.uses(hugetlb) || p.uses(rdma) || p.uses(misc) { // systemd does not know these
		if err := i.handDown(path.Dir(dir)); err != nil {
			return nil, err
		}
	}
	if err := i.set(g, p.settings); err != nil {
		return nil, err
	}
	if p.devices && !allowsAll(p.deviceRules) {
		if err := attachNewDevices(dir, p.deviceRules); err != nil {
			return nil, err
		}
	}
	if err := delegate(c, dir); err != nil {
		return nil, err
	}
	return &containerizer.LaunchInfo{Cgroup: i.attachment(g), Barrier: true}, nil
}

// stopUnits ends the units that c's ledger lists, the scope before the slice.
func (i *Isolator) stopUnits(ctx context.Context, c *containerizer.Container) error {
	names := c.Ledger.Held(kindUnit)
	if len(names) == 0 {
		return nil
	}
	if i.units == nil {
		return fmt.Errorf("container %q has the systemd unit %q, which only an isolator with the systemd driver can release: %w", c.ID, names[0], containerizer.ErrFailedPrecondition)
	}
	// Stopping a scope signals its processes politely and waits; there should be none.
	if g, ok := held(c); ok {
		if err := i.killTree(ctx, g.in(&i.node.hierarchies[0])); err != nil {
			return err
		}
	}
	for _, name := range slices.Backward(names) {
		if err := i.units.Stop(ctx, name); err != nil {
			return fmt.Errorf("stop unit %q: %w", name, err)
		}
		if err := c.Ledger.Release(kindUnit, name); err != nil {
			return err
		}
	}
	return nil
}

// updateUnit tells systemd of new limits: of the scope, or a sandbox's slice.
func (i *Isolator) updateUnit(ctx context.Context, c *containerizer.Container, r *containerizer.Resources) error {
	names := c.Ledger.Held(kindUnit)
	properties := unitProperties(&r.Linux)
	if i.units == nil || len(names) == 0 || len(properties) == 0 {
		return nil
	}
	name := names[len(names)-1]
	if err := i.units.SetProperties(ctx, name, properties); err != nil {
		return fmt.Errorf("change unit %q: %w", name, err)
	}
	return nil
}
