package cgroup

import (
	"context"
	"errors"

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
	undo, err := i.change(g, p.settings)
	if err != nil {
		return err
	}
	if p.devices {
		if err := i.updateDevices(c, g, p); err != nil {
			return errors.Join(err, undo())
		}
	}
	if err := i.updateUnit(ctx, c, r); err != nil {
		return errors.Join(err, undo())
	}
	return nil
}

func (i *Isolator) updateDevices(c *containerizer.Container, g group, p *plan) error {
	if i.node.unified {
		return attachDevices(g.in(&i.node.hierarchies[0]), p.deviceRules, p.allDevices)
	}
	dir := g.in(i.node.of(devices))
	_, err := changeDevices(dir, p.deviceSet)
	if err != nil && g.devices != "" {
		return defaultDevicesOnly(c.ID, err)
	}
	return err
}
