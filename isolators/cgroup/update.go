package cgroup

import (
	"context"
	"errors"
	"fmt"

	"github.com/berth-dev/berth/containerizer"
)

// Update implements containerizer.Updater. Everything is checked first; what was
// written is written back when a later part is refused.
func (i *Isolator) Update(ctx context.Context, c *containerizer.Container, r *containerizer.Resources) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	g, err := i.own(c, "update")
	if err != nil {
		return err
	}
	p, err := i.compile(c, r, func(ctl controller, file string) (string, error) {
		h := i.node.of(ctl)
		if h == nil {
			return "", i.node.missing(ctl, file)
		}
		return readFile(g.in(h) + "/" + file)
	})
	if err != nil {
		return err
	}
	for n := range p.settings {
		s := &p.settings[n]
		if h := i.node.of(s.controller); h.onRequest && !exists(g.in(h)) {
			return lateController(s)
		}
	}
	if p.devices && c.Launch == nil {
		return fmt.Errorf("change the devices of container %q: which ones it was launched with is not known: %w", c.ID, containerizer.ErrFailedPrecondition)
	}
	undo, err := i.change(g, p.settings)
	if err != nil {
		return err
	}
	undoDevices := func() error { return nil }
	if p.devices {
		if undoDevices, err = i.changeDevices(c, g, p); err != nil {
			return errors.Join(err, undo())
		}
	}
	if err := i.updateUnit(ctx, c, r); err != nil {
		return errors.Join(err, undoDevices(), undo())
	}
	return nil
}

// changeDevices makes the rules of p those of g.
func (i *Isolator) changeDevices(c *containerizer.Container, g group, p *plan) (undo func() error, err error) {
	if i.node.unified {
		before, err := deviceRules(c, nil)
		if err != nil {
			return nil, err
		}
		dir := g.in(&i.node.hierarchies[0])
		return func() error { return attachDevices(dir, before) }, attachDevices(dir, p.deviceRules)
	}
	undo, err = changeDevices(g.in(i.node.of(devices)), p.deviceSet)
	if err != nil && g.devices != "" {
		return nil, defaultDevicesOnly(c.ID, err)
	}
	return undo, err
}
