package cgroup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// freezePatience is how long a kill waits for the freezer before it goes on
// without: a process in an uninterruptible system call does not freeze.
const freezePatience = 100 * time.Millisecond

// KillAll implements containerizer.Freezer. A container that shares its parent's
// group has no group of its own, and nothing is killed.
func (i *Isolator) KillAll(ctx context.Context, c *containerizer.Container) error {
	if c.Spec != nil && c.Spec.ShareCgroup {
		return nil
	}
	g, ok := held(c)
	if !ok {
		return nil
	}
	dir := g.in(&i.node.hierarchies[0])
	list, err := treePIDs(dir)
	if err == nil && len(i.launching.without(c.ID, list)) == 0 {
		return nil
	}
	if err := i.killTree(ctx, dir); err != nil {
		return fmt.Errorf("kill the processes of container %q: %w", c.ID, err)
	}
	return nil
}

// killTree kills everything in the group dir of the freezer's hierarchy, or of
// another version 1 hierarchy, and below, and returns when nothing is left.
func (i *Isolator) killTree(ctx context.Context, dir string) error {
	list, err := treePIDs(dir)
	if err != nil || len(list) == 0 {
		return err
	}
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		if err := i.killOnce(ctx, dir, list); err != nil {
			return err
		}
		if list, err = treePIDs(dir); err != nil || len(list) == 0 {
			return err
		}
		if err := wait(ctx, pause); err != nil {
			return fmt.Errorf("%w with %d processes left, the first of them %d", err, len(list), list[0])
		}
	}
}

// killOnce sends SIGKILL to everything in dir: by cgroup.kill where the kernel has
// it (5.14), else with the group frozen, so that nothing forks meanwhile.
func (i *Isolator) killOnce(ctx context.Context, dir string, list []int) error {
	if i.node.unified {
		err := writeFile(dir+"/cgroup.kill", "1")
		if err == nil || !isAny(err, unix.ENOENT, unix.EOPNOTSUPP) {
			return ignoreGone(err)
		}
	}
	if !exists(dir + i.freezeFile()) {
		return killListed(dir, list)
	}
	if len(list) > 1 {
		short, cancel := context.WithTimeout(ctx, freezePatience)
		err := i.freeze(short, dir)
		cancel()
		if err == nil {
			if list, err = treePIDs(dir); err != nil {
				return err
			}
		}
	}
	// A frozen process dies when it runs again.
	return errors.Join(killListed(dir, list), i.thawTree(dir))
}

// thawTree lets dir and the groups below it run; each may have been frozen for
// itself.
func (i *Isolator) thawTree(dir string) error {
	err := i.writeState(dir, thawed)
	if err != nil {
		return ignoreGone(err)
	}
	names, err := subdirs(dir)
	for _, name := range names {
		err = errors.Join(err, i.thawTree(dir+"/"+name))
	}
	return ignoreGone(err)
}

func (i *Isolator) freezeFile() string {
	if i.node.unified {
		return "/cgroup.freeze"
	}
	return "/freezer.state"
}

// killListed kills the processes of list that are in dir. A pid is opened before
// it is looked up again: whoever got the number meanwhile is not hit.
func killListed(dir string, list []int) error {
	type target struct{ pid, fd int }
	var targets []target
	defer func() {
		for _, t := range targets {
			_ = unix.Close(t.fd)
		}
	}()
	const batch = 512 // descriptors; the caller calls again
	for _, pid := range list[:min(len(list), batch)] {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
				continue // gone; or no thread group leader any more
			}
			return fmt.Errorf("open process %d: %w", pid, err)
		}
		targets = append(targets, target{pid, fd})
	}
	now, err := treePIDs(dir)
	if err != nil {
		return err
	}
	for _, t := range targets {
		if !slices.Contains(now, t.pid) {
			continue
		}
		err := unix.PidfdSendSignal(t.fd, unix.SIGKILL, nil, 0)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill process %d: %w", t.pid, err)
		}
	}
	return nil
}

func ignoreGone(err error) error {
	if gone(err) {
		return nil
	}
	return err
}

func isAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) })
}
