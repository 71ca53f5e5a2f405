package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// ReportExit implements containerizer.ExitReporter. An OOM kill anywhere in the
// container is noted; it is the reason of the exit unless the container ended
// well, or was ended, in spite of it.
func (i *Isolator) ReportExit(_ context.Context, c *containerizer.Container, t *containerizer.Termination) error {
	if c.Spec != nil && c.Spec.ShareCgroup || i.node.of(memory) == nil {
		return nil
	}
	g, ok := held(c)
	if !ok {
		return nil
	}
	kills, err := i.oomKills(c, g)
	if err != nil || kills == 0 {
		return err
	}
	t.OOMKilled = true
	if t.ExitCode == 0 || (t.Reason != "" && t.Reason != containerizer.ReasonError && t.Reason != containerizer.ReasonUnknown) {
		return nil
	}
	t.Reason = containerizer.ReasonOOMKilled
	if t.Message == "" {
		t.Message = i.oomMessage(c, g)
	}
	return nil
}

func (i *Isolator) oomFile() string {
	if i.node.unified {
		return "memory.events"
	}
	return "memory.oom_control"
}

// oomKills counts the processes of c's group that the kernel's OOM killer killed;
// none when nothing is left that tells.
func (i *Isolator) oomKills(c *containerizer.Container, g group) (kills uint64, err error) {
	dir := g.in(i.node.of(memory))
	s, err := readFile(dir + "/" + i.oomFile())
	if gone(err) && i.units != nil {
		// The scope went with its last process; the slice around it counted too.
		if m, ok := readMark(path.Dir(dir)); ok && m.id == c.ID {
			s, err = readFile(path.Dir(dir) + "/" + i.oomFile())
		}
	}
	if err != nil {
		return 0, ignoreGone(err)
	}
	err = parseFlat(s, func(key string, v uint64) {
		if key == "oom_kill" {
			kills = v
		}
	})
	return kills, err
}

// oomMessage says how much memory there was.
func (i *Isolator) oomMessage(c *containerizer.Container, g group) string {
	const what = "killed by the kernel for want of memory"
	r := statReader{node: &i.node, group: g, files: &i.statistics}
	limit, peak := r.number(memory, "memory.limit_in_bytes"), r.number(memory, "memory.max_usage_in_bytes")
	if i.node.unified {
		limit, peak = r.number(memory, "memory.max"), r.number(memory, "memory.peak")
	}
	if m := c.Spec; limit == 0 && m != nil && m.Resources.Linux.Memory != nil && m.Resources.Linux.Memory.Limit != nil {
		limit = uint64(max(*m.Resources.Linux.Memory.Limit, 0))
	}
	switch {
	case limit == 0:
		return what + "; the container has no limit of its own, one further up or the node's memory was exhausted"
	case peak == 0:
		return fmt.Sprintf("%s: the limit is %d bytes", what, limit)
	}
	return fmt.Sprintf("%s: the limit is %d bytes, at most %d were used", what, limit, peak)
}

// Watch implements containerizer.Watcher: with Options.EndOnOOM it returns when a
// process of c was killed for want of memory; without there is nothing to watch for.
func (i *Isolator) Watch(ctx context.Context, c *containerizer.Container) (*containerizer.Limitation, error) {
	if !i.endOnOOM || i.node.of(memory) == nil || c.Spec.ShareCgroup {
		return nil, nil
	}
	g, err := i.own(c, "watch")
	if err != nil {
		return nil, err
	}
	dir := g.in(i.node.of(memory))
	var events *os.File
	if i.node.unified {
		events, err = watchEvents(dir)
	} else {
		events, err = watchOOM(dir)
	}
	if err != nil {
		if !gone(err) {
			return nil, fmt.Errorf("watch for OOM kills in %q: %w", dir, err)
		}
		return nil, nil // nothing is left that could run out of memory
	}
	defer func() { _ = events.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = events.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	// On version 1 the event comes before the kill is counted, so that after an event
	// the count is looked at in growing intervals.
	var pause time.Duration
	for {
		kills, err := i.oomKills(c, g)
		if err != nil {
			return nil, err
		}
		if kills > 0 {
			return &containerizer.Limitation{Resource: "mem", Message: i.oomMessage(c, g), Isolator: "cgroups/mem"}, nil
		}
		happened, err := awaitEvent(ctx, events, dir, pause)
		if err != nil {
			return nil, err
		}
		switch {
		case happened:
			pause = firstPause
		case pause > 0:
			pause = min(2*pause, time.Second)
		}
	}
}

// awaitEvent returns when something happened, or after pause unless that is 0.
// When the group is gone it waits for the end of ctx.
func awaitEvent(ctx context.Context, events *os.File, dir string, pause time.Duration) (happened bool, err error) {
	var deadline time.Time
	if pause > 0 {
		deadline = time.Now().Add(pause)
	}
	if err := events.SetReadDeadline(deadline); err != nil {
		return false, err
	}
	if ctx.Err() != nil { // looked at after the deadline was set, which the end of ctx sets too
		return false, ctx.Err()
	}
	var buf [unix.SizeofInotifyEvent + unix.NAME_MAX + 1]byte
	_, err = events.Read(buf[:])
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return false, fmt.Errorf("watch for OOM kills in %q: %w", dir, err)
	}
	if ctx.Err() == nil && !exists(dir) {
		<-ctx.Done()
	}
	return err == nil, ctx.Err()
}

// watchOOM registers an eventfd for OOM (cgroup-v1/memory.rst, "OOM Control").
func watchOOM(dir string) (*os.File, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	events := os.NewFile(uintptr(fd), "eventfd")
	control, err := open(dir+"/memory.oom_control", unix.O_RDONLY)
	if err != nil {
		return nil, errors.Join(err, events.Close())
	}
	err = writeFile(dir+"/cgroup.event_control", strconv.Itoa(fd)+" "+strconv.Itoa(control))
	_ = unix.Close(control) // the kernel keeps what it needs
	if err != nil {
		return nil, errors.Join(err, events.Close())
	}
	return events, nil
}

// watchEvents watches memory.events for changes (cgroup-v2.rst).
func watchEvents(dir string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	events := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, dir+"/memory.events", unix.IN_MODIFY); err != nil {
		return nil, errors.Join(err, events.Close())
	}
	return events, nil
}
