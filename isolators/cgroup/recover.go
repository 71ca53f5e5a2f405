package cgroup

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// Recover implements containerizer.Recoverer: it kills and removes groups below
// the default parent that bear this owner's mark and belong to none of live. A
// group elsewhere is in the ledger of its container, which outlives us.
func (i *Isolator) Recover(ctx context.Context, live []*containerizer.Container) (orphans []containerizer.ContainerID, err error) {
	known := make(map[containerizer.ContainerID]bool, len(live))
	for _, c := range live {
		known[c.ID] = true
	}
	parent := i.parent
	if i.units != nil {
		if parent, err = slicePath(i.parent); err != nil {
			return nil, err
		}
	}
	found, err := i.marked(parent)
	if err != nil {
		return nil, err
	}
	var errs []error
	for name, m := range found {
		if known[m.id] || m.owner != i.owner || time.Since(m.made) < i.orphanAge {
			continue
		}
		if err := i.removeOrphan(ctx, name); err != nil {
			errs = append(errs, fmt.Errorf("release the orphaned control group %q: %w", name, err))
			continue
		}
		orphans = append(orphans, m.id)
	}
	return orphans, errors.Join(errs...)
}

// marked lists the container groups directly below parent by path.
func (i *Isolator) marked(parent string) (map[string]mark, error) {
	dir := i.node.hierarchies[0].dir + parent
	names, err := subdirs(dir)
	if err != nil {
		return nil, ignoreGone(err)
	}
	found := make(map[string]mark, len(names))
	for _, name := range names {
		if m, ok := readMark(path.Join(dir, name)); ok {
			found[path.Join(parent, name)] = m
		}
	}
	return found, nil
}

// removeOrphan removes a group, and its counterpart below the group with the
// default devices: there may be several, of different versions of berth.
func (i *Isolator) removeOrphan(ctx context.Context, name string) error {
	if err := i.killTree(ctx, i.node.hierarchies[0].dir+name); err != nil {
		return err
	}
	if i.units != nil {
		// Everything below a slice is stopped with it.
		if err := i.units.Stop(ctx, path.Base(name)); err != nil {
			return err
		}
	}
	if err := i.removeBelowTemplates(ctx, name); err != nil {
		return err
	}
	return i.removeGroup(ctx, name, kindGroup)
}

// removeBelowTemplates removes the counterparts of a group in the version 1
// devices hierarchy.
func (i *Isolator) removeBelowTemplates(ctx context.Context, name string) error {
	h := i.node.of(devices)
	if i.node.unified || h == nil {
		return nil
	}
	siblings, err := subdirs(h.dir + path.Dir(name))
	if err != nil {
		return ignoreGone(err)
	}
	for _, s := range siblings {
		if !isTemplate(s) {
			continue
		}
		if err := i.removeGroup(ctx, path.Join(path.Dir(name), s, path.Base(name)), kindDevices); err != nil {
			return err
		}
	}
	return nil
}
