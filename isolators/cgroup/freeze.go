package cgroup

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// Freeze implements containerizer.Freezer. If ctx ends first, the processes run
// again.
func (i *Isolator) Freeze(ctx context.Context, c *containerizer.Container) error {
	dir, err := i.freezerDir(c, "pause")
	if err != nil {
		return err
	}
	if err := i.freeze(ctx, dir); err != nil {
		_ = i.writeState(dir, thawed) // the error says what happened
		return fmt.Errorf("pause container %q: %w", c.ID, err)
	}
	return nil
}

// Thaw implements containerizer.Freezer.
func (i *Isolator) Thaw(ctx context.Context, c *containerizer.Container) error {
	dir, err := i.freezerDir(c, "resume")
	if err != nil {
		return err
	}
	if err := i.writeState(dir, thawed); err != nil {
		return fmt.Errorf("resume container %q: %w", c.ID, err)
	}
	if err := i.await(ctx, dir, thawed); err != nil {
		return fmt.Errorf("resume container %q: %w", c.ID, err)
	}
	return nil
}

// Processes implements containerizer.Freezer. It lists what is in the groups of
// c, those below it included.
func (i *Isolator) Processes(_ context.Context, c *containerizer.Container) ([]int, error) {
	dir, err := i.freezerDir(c, "list processes")
	if err != nil {
		return nil, err
	}
	list, err := treePIDs(dir)
	return i.launching.without(c.ID, list), err
}

// freezerDir is the directory that stands for all processes of c.
func (i *Isolator) freezerDir(c *containerizer.Container, what string) (string, error) {
	g, err := i.own(c, what)
	if err != nil {
		return "", err
	}
	return g.in(&i.node.hierarchies[0]), nil
}

// freezerState is a state of a group as the version 1 freezer writes it.
type freezerState string

const (
	frozen freezerState = "FROZEN"
	thawed freezerState = "THAWED"
)

func (i *Isolator) writeState(dir string, s freezerState) error {
	if !i.node.unified {
		return writeFile(dir+"/freezer.state", string(s))
	}
	value := "0"
	if s == frozen {
		value = "1"
	}
	return writeFile(dir+"/cgroup.freeze", value)
}

// state is what the kernel has reached with everything below dir; "" is neither.
func (i *Isolator) state(dir string) (freezerState, error) {
	if !i.node.unified {
		state, err := readFile(dir + "/freezer.state")
		return freezerState(state), err
	}
	events, err := readFile(dir + "/cgroup.events")
	if err == nil && strings.Contains(events, "frozen 1") {
		return frozen, nil
	}
	return thawed, err
}

// freeze stops everything below dir. The version 1 freezer can miss a process
// that forks just then, and stays FREEZING until it is told again
// (freezer-subsystem.rst).
func (i *Isolator) freeze(ctx context.Context, dir string) error {
	if err := i.writeState(dir, frozen); err != nil {
		return err
	}
	return i.await(ctx, dir, frozen)
}

// await waits until the group dir is as wanted.
func (i *Isolator) await(ctx context.Context, dir string, want freezerState) error {
	for pause := firstPause / 5; ; pause = min(2*pause, longestPause) {
		now, err := i.state(dir)
		if err != nil || now == want {
			return err
		}
		if err := wait(ctx, pause); err != nil {
			return fmt.Errorf("%w while %s", err, stuck(dir))
		}
		if !i.node.unified {
			if err := i.writeState(dir, want); err != nil {
				return err
			}
		}
	}
}

// wait pauses, unless ctx ends first.
func wait(ctx context.Context, pause time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
		return nil
	}
}

// stuck names the processes that do not stop, for the message.
func stuck(dir string) string {
	list, err := treePIDs(dir)
	if err != nil || len(list) == 0 {
		return "waiting for the freezer"
	}
	for _, pid := range list {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		// The state follows the command's name, which may hold anything (proc(5)).
		if at := strings.LastIndex(string(stat), ") "); at >= 0 && len(stat) > at+2 && stat[at+2] == 'D' {
			return fmt.Sprintf("waiting for process %d, which is in an uninterruptible system call", pid)
		}
	}
	return fmt.Sprintf("waiting for %d processes", len(list))
}

// treePIDs lists the processes of dir and the groups below it; none when it is
// gone.
func treePIDs(dir string) ([]int, error) {
	list, err := readPIDs(dir + "/cgroup.procs")
	if err != nil {
		if absent(err) {
			return nil, nil
		}
		return nil, err
	}
	names, err := subdirs(dir)
	if err != nil && !absent(err) {
		return nil, err
	}
	for _, name := range names {
		below, err := treePIDs(dir + "/" + name)
		if err != nil {
			return nil, err
		}
		list = append(list, below...)
	}
	return list, nil
}

// gone is whether err says that a group was removed, perhaps under an open file.
func gone(err error) bool { return isAny(err, unix.ENOENT, unix.ENODEV) }

// absent is whether err says that there is no group, nor could be: a parent was asked
// for that is a file of the kernel's.
func absent(err error) bool { return gone(err) || isAny(err, unix.ENOTDIR) }
