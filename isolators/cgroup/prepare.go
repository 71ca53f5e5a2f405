package cgroup

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// Prepare implements containerizer.Isolator. It makes c's group and sets its
// limits, and returns where the process starts. Everything that can be checked is
// checked before anything is made.
func (i *Isolator) Prepare(ctx context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c.Spec.ShareCgroup {
		return i.share(c)
	}
	p, err := i.compile(c, &c.Spec.Resources, nil)
	if err != nil {
		return nil, err
	}
	if i.units != nil && i.wantsUnit(c) {
		return i.prepareUnit(ctx, c, p)
	}
	g, err := i.place(c)
	if err != nil {
		return nil, err
	}
	if g.devices == "" && i.usesTemplate(c, p) {
		g.devices = path.Join(i.parent, templateName(p.deviceSet), path.Base(g.path))
	}
	if err := i.acquire(c, g, p); err != nil {
		return nil, err
	}
	if err := i.populate(c, g, p); err != nil {
		return nil, err
	}
	return &containerizer.LaunchInfo{Cgroup: i.attachment(g)}, nil
}

// share gives c the group of its parent.
func (i *Isolator) share(c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	if c.Parent == nil {
		return nil, fmt.Errorf("container %q has no parent to share a control group with: %w", c.ID, containerizer.ErrInvalid)
	}
	if c.Spec.CgroupParent != "" {
		return nil, fmt.Errorf("container %q shares the control group of its parent and names the cgroup parent %q too: %w", c.ID, c.Spec.CgroupParent, containerizer.ErrInvalid)
	}
	p, err := i.compile(c, &c.Spec.Resources, nil)
	if err != nil {
		return nil, err
	}
	if len(p.settings) > 0 {
		return nil, fmt.Errorf("container %q shares the control group of its parent, so it cannot have a %s of its own: %w", c.ID, p.settings[0].field, containerizer.ErrInvalid)
	}
	g, err := i.find(c.Parent)
	if err != nil {
		return nil, err
	}
	return &containerizer.LaunchInfo{Cgroup: i.attachment(g)}, nil
}

// compile checks r and turns it into settings. With current the result is a
// change of a living group.
func (i *Isolator) compile(c *containerizer.Container, r *containerizer.Resources, current func(controller, string) (string, error)) (*plan, error) {
	p := &plan{current: current}
	l := &r.Linux
	for _, step := range []func() error{
		func() error { return i.planCPU(p, l.CPU) },
		func() error { return i.planCPUSet(p, l.CPU) },
		func() error { return i.planMemory(p, l.Memory) },
		func() error { return i.planPIDs(p, l.Pids) },
		func() error { return i.planBlockIO(p, l.BlockIO) },
		func() error { return i.planHugetlb(p, l.HugepageLimits) },
		func() error { return i.planNetwork(p, l.Network) },
		func() error { return i.planRDMA(p, l.Rdma) },
		func() error { return i.planUnified(p, l.Unified) },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	var changed []specs.LinuxDeviceCgroup
	if current != nil {
		if l.Devices == nil {
			return p, nil
		}
		changed = l.Devices
	}
	return p, i.planDevices(p, c, changed)
}

func (i *Isolator) planDevices(p *plan, c *containerizer.Container, changed []specs.LinuxDeviceCgroup) error {
	if i.node.of(devices) == nil {
		if asked := c.Spec.Resources.Linux.Devices; len(asked) > 0 || changed != nil {
			return i.node.missing(devices, "devices")
		}
		return nil
	}
	rules, err := deviceRules(c, changed)
	if err != nil {
		return err
	}
	p.devices, p.deviceRules = true, rules
	if !i.node.unified {
		p.deviceSet, err = newDeviceSet(rules)
	}
	return err
}

// usesTemplate is whether c's place in the version 1 devices hierarchy is below
// the group that has the default devices.
func (i *Isolator) usesTemplate(c *containerizer.Container, p *plan) bool {
	if i.node.unified || !p.devices || c.Spec.CgroupParent != "" || c.Parent != nil {
		return false
	}
	h := i.node.of(devices)
	if len(h.controllers) != 1 {
		return false
	}
	standard, err := newDeviceSet(defaultDevices())
	return err == nil && sameDevices(p.deviceSet, standard)
}

// acquire records and makes the directories of g. It does not take over a group
// that c did not make.
func (i *Isolator) acquire(c *containerizer.Container, g group, p *plan) error {
	before, again := held(c)
	if again && before != g {
		return fmt.Errorf("container %q still holds the control group %q: %w", c.ID, before.path, containerizer.ErrFailedPrecondition)
	}
	if err := c.Ledger.Acquire(kindGroup, g.path); err != nil {
		return err
	}
	if g.devices != "" {
		if err := c.Ledger.Acquire(kindDevices, g.devices); err != nil {
			return err
		}
		if err := i.ensureTemplate(path.Dir(g.devices), p.deviceSet); err != nil {
			return err
		}
	}
	if err := i.acquireFirst(c, g, again); err != nil {
		return err
	}
	for n := range i.node.hierarchies[1:] {
		h := &i.node.hierarchies[n+1]
		if h.onRequest && !slices.ContainsFunc(h.controllers, p.uses) {
			continue
		}
		err := i.makeGroup(h, g.in(h))
		if errors.Is(err, unix.EEXIST) {
			// The first one was not there: an earlier container left this behind.
			err = i.renew(h, g.in(h))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// acquireFirst makes the directory that decides whose the group is, and marks it.
// again: c made it before, and was not cleaned up.
func (i *Isolator) acquireFirst(c *containerizer.Container, g group, again bool) error {
	h := &i.node.hierarchies[0]
	dir := g.in(h)
	err := i.makeGroup(h, dir)
	switch {
	case errors.Is(err, unix.EEXIST) && again:
	case errors.Is(err, unix.EEXIST):
		// Somebody else's: give up the claim, so that Cleanup leaves it alone.
		err = fmt.Errorf("%w; another container manager uses the control group %q: %w", err, g.path, containerizer.ErrAlreadyExists)
		return errors.Join(err, c.Ledger.Release(kindGroup, g.path), c.Ledger.Release(kindDevices, g.devices))
	case err != nil:
		return err
	}
	return i.mark(dir, c.ID)
}

func (i *Isolator) ensureTemplate(dir string, s deviceSet) error {
	h := i.node.of(devices)
	if exists(h.dir + dir) {
		return nil
	}
	if err := i.makeParents(h, h.dir+path.Dir(dir)); err != nil {
		return err
	}
	return ensureTemplate(h.dir+dir, s)
}

// renew replaces an empty directory that an earlier container left.
func (i *Isolator) renew(h *hierarchy, dir string) error {
	if err := rmdir(dir); err != nil {
		return fmt.Errorf("take the place of a group left behind: %w", err)
	}
	return i.makeGroup(h, dir)
}

// makeGroup makes one directory, and its parents when they are missing.
func (i *Isolator) makeGroup(h *hierarchy, dir string) error {
	if i.node.unified {
		if err := i.handDown(path.Dir(dir)); err != nil {
			return err
		}
	}
	err := mkdir(dir)
	// Parents may go away again and again, each time with the last container of
	// somebody else below them.
	for tries := 0; gone(err) && tries < 1000; tries++ {
		if err = i.makeParents(h, path.Dir(dir)); err != nil {
			continue
		}
		if i.node.unified {
			if err = i.handDown(path.Dir(dir)); err != nil {
				return err
			}
		}
		err = mkdir(dir)
	}
	if err == nil && !i.node.unified && h.has(cpuset) {
		err = initCPUSet(dir)
	}
	return err
}

// makeParents makes the missing ones of dir and its parents. Unless they belong
// to the default parent they are marked, to be removed with their last container.
func (i *Isolator) makeParents(h *hierarchy, dir string) error {
	if dir == h.dir || exists(dir) {
		return nil
	}
	if err := i.makeParents(h, path.Dir(dir)); err != nil {
		return err
	}
	if i.node.unified {
		if err := i.handDown(path.Dir(dir)); err != nil {
			return err
		}
	}
	if err := mkdir(dir); err != nil {
		if errors.Is(err, unix.EEXIST) {
			return nil // made by another process meanwhile, which does the rest
		}
		return err
	}
	if !i.node.unified && h.has(cpuset) {
		if err := initCPUSet(dir); err != nil {
			return err
		}
		if err := writeFile(dir+"/cgroup.clone_children", "1"); err != nil {
			return err
		}
	}
	if below := strings.TrimPrefix(dir, h.dir); below == i.parent || strings.HasPrefix(i.parent, below+"/") {
		return nil
	}
	return markParent(dir)
}

// populate sets everything on the directories of g.
func (i *Isolator) populate(c *containerizer.Container, g group, p *plan) error {
	if err := i.set(g, p.settings); err != nil {
		return err
	}
	if p.devices {
		if err := i.setDevices(c, g, p); err != nil {
			return err
		}
	}
	if i.node.unified {
		dir := g.in(&i.node.hierarchies[0])
		if c.Spec.Class == containerizer.ClassPodSandbox {
			// Its children come below it, so its own process never sits in its group.
			if err := mkdir(dir + "/" + leafName); err != nil && !errors.Is(err, unix.EEXIST) {
				return err
			}
		}
		return delegate(c, dir)
	}
	return nil
}

func (i *Isolator) setDevices(c *containerizer.Container, g group, p *plan) error {
	if i.node.unified {
		if allowsAll(p.deviceRules) {
			return nil
		}
		return attachNewDevices(g.in(&i.node.hierarchies[0]), p.deviceRules)
	}
	dir := g.in(i.node.of(devices))
	switch {
	case c.Spec.Class == containerizer.ClassPodSandbox:
		return nil // as its parent
	case c.Parent != nil || c.Spec.CgroupParent != "":
		_, err := changeDevices(dir, p.deviceSet) // from what its parent may
		return err
	case g.devices != "", p.deviceSet.allowAll && len(p.deviceSet.exceptions) == 0:
		return nil // what the template, or the default parent, has
	}
	return writeDevices(dir, p.deviceSet)
}
