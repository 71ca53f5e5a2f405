package cgroup

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// How long Cleanup waits for the kernel to be done with the last process, and how
// often it looks at first; the engine calls again if that was not enough.
const (
	removalPatience = 2 * time.Second
	firstPause      = 500 * time.Microsecond
	longestPause    = 20 * time.Millisecond
)

// Cleanup implements containerizer.Isolator. Processes that are still there are
// killed: nobody claims them any more.
func (i *Isolator) Cleanup(ctx context.Context, c *containerizer.Container) error {
	if err := i.launching.release(c.ID); err != nil {
		return err
	}
	if err := i.stopUnits(ctx, c); err != nil {
		return err
	}
	// The group in all hierarchies goes first: what kills processes is there.
	for _, kind := range []string{kindGroup, kindDevices} {
		for _, name := range c.Ledger.Held(kind) {
			if err := i.giveUp(ctx, c, kind, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// giveUp removes what an entry of the ledger is about, and the entry.
func (i *Isolator) giveUp(ctx context.Context, c *containerizer.Container, kind, name string) error {
	if err := checkGroupPath(name); err != nil || name == "/" {
		return fmt.Errorf("ledger of container %q: %w", c.ID, errors.Join(err, containerizer.ErrDataCorrupt))
	}
	if kind == kindGroup && !i.mayRemove(i.node.hierarchies[0].dir+name, c.ID) {
		// Made by somebody else before we got to it; so is the one for devices.
		for _, d := range c.Ledger.Held(kindDevices) {
			if err := c.Ledger.Release(kindDevices, d); err != nil {
				return err
			}
		}
		return c.Ledger.Release(kind, name)
	}
	if err := i.removeGroup(ctx, name, kind); err != nil {
		return err
	}
	return c.Ledger.Release(kind, name)
}

// removeGroup removes a group from every hierarchy that an entry of kind is
// about; the first one last, because that has the mark.
func (i *Isolator) removeGroup(ctx context.Context, name, kind string) error {
	first := i.node.hierarchies[0].dir + name
	for n := range i.node.hierarchies {
		i.statistics.drop(i.node.hierarchies[n].dir + name)
	}
	var errs []error
	for n := len(i.node.hierarchies) - 1; n >= 0; n-- {
		h := &i.node.hierarchies[n]
		if kind == kindDevices && !h.has(devices) {
			continue
		}
		dir := h.dir + name
		if err := i.removeTree(ctx, dir, first); err != nil {
			errs = append(errs, err)
			continue
		}
		removeParents(path.Dir(dir))
	}
	return errors.Join(errs...)
}

// mayRemove is whether the group dir is that of container id. A group without
// mark may be one that berth was killed over while making it; it is empty then.
func (i *Isolator) mayRemove(dir string, id containerizer.ContainerID) bool {
	if m, ok := readMark(dir); ok {
		return m.id == id && m.owner == i.owner
	}
	list, err := treePIDs(dir)
	return err == nil && len(list) == 0
}

// removeTree removes a group and all below it, waiting and killing if it must:
// what is in all, the container's group in the freezer's hierarchy, and in dir.
func (i *Isolator) removeTree(ctx context.Context, dir, all string) error {
	err := rmdir(dir)
	if err == nil || absent(err) {
		return nil
	}
	if !busy(err) {
		return err
	}
	for _, d := range []string{all, dir} {
		if err := i.killTree(ctx, d); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, removalPatience)
	defer cancel()
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := removeSubtree(dir)
		if err == nil || !busy(err) {
			return err
		}
		if wait(ctx, pause) != nil {
			return fmt.Errorf("%w; the kernel still holds it, it will be tried again: %w", err, containerizer.ErrUnavailable)
		}
	}
}

func busy(err error) bool { return errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOTEMPTY) }

// removeSubtree removes dir, children first.
func removeSubtree(dir string) error {
	names, err := subdirs(dir)
	if err != nil {
		if absent(err) {
			return nil
		}
		return err
	}
	for _, name := range names {
		if err := removeSubtree(path.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}
