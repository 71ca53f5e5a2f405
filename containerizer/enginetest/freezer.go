package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// Freezer is the [containerizer.Freezer] for containers of [Launcher]: it takes
// the sessions (setsid(2)) of a container's processes for its control group.
type Freezer struct{}

var (
	_ containerizer.Isolator = Freezer{}
	_ containerizer.Freezer  = Freezer{}
)

// Name implements [containerizer.Isolator].
func (Freezer) Name() string { return "test/freezer" }

// Prepare implements [containerizer.Isolator].
func (Freezer) Prepare(context.Context, *containerizer.Container) (*containerizer.LaunchInfo, error) {
	return nil, nil
}

// Cleanup implements [containerizer.Isolator].
func (Freezer) Cleanup(context.Context, *containerizer.Container) error { return nil }

// Freeze implements [containerizer.Freezer].
func (f Freezer) Freeze(ctx context.Context, c *containerizer.Container) error {
	return f.signal(ctx, c, unix.SIGSTOP)
}

// Thaw implements [containerizer.Freezer].
func (f Freezer) Thaw(ctx context.Context, c *containerizer.Container) error {
	return f.signal(ctx, c, unix.SIGCONT)
}

func (f Freezer) signal(ctx context.Context, c *containerizer.Container, sig unix.Signal) error {
	pids, err := f.Processes(ctx, c)
	for _, pid := range pids {
		if kerr := unix.Kill(pid, sig); kerr != nil && !errors.Is(kerr, unix.ESRCH) {
			err = errors.Join(err, kerr)
		}
	}
	return err
}

// KillAll implements [containerizer.Freezer].
func (f Freezer) KillAll(ctx context.Context, c *containerizer.Container) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		pids, err := f.Processes(ctx, c)
		if err != nil || len(pids) == 0 {
			return err
		}
		if err := f.signal(ctx, c, unix.SIGKILL); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Processes implements [containerizer.Freezer].
func (Freezer) Processes(_ context.Context, c *containerizer.Container) ([]int, error) {
	sessions := map[int]bool{}
	var s monitorState
	if err := readJSON(filepath.Join(folder(c), stateFile), &s); err == nil && s.PID > 0 {
		sessions[s.PID] = true
	} else if err == nil && s.MonitorPID > 0 && !isSandbox(c) && s.FailCode == 0 {
		return alive(s.MonitorPID), nil // held
	}
	if b, err := os.ReadFile(filepath.Join(folder(c), execsFile)); err == nil {
		for line := range bytes.Lines(b) {
			if pid, err := strconv.Atoi(string(bytes.TrimSpace(line))); err == nil {
				sessions[pid] = true
			}
		}
	}
	if len(sessions) == 0 {
		return nil, nil
	}
	return inSessions(sessions)
}

func alive(pid int) []int {
	if state, _, err := procStat(pid); err != nil || state == 'Z' {
		return nil
	}
	return []int{pid}
}

// inSessions lists the processes of the node that are in one of sessions.
func inSessions(sessions map[int]bool) ([]int, error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer proc.Close() //nolint:errcheck // only read
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if state, session, err := procStat(pid); err == nil && sessions[session] && state != 'Z' {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// procStat reads state and session from /proc/PID/stat (proc(5)).
func procStat(pid int) (state byte, session int, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	rest := b[bytes.LastIndexByte(b, ')')+1:]
	var ppid, pgrp int
	_, err = fmt.Sscanf(string(rest), " %c %d %d %d", &state, &ppid, &pgrp, &session)
	return state, session, err
}
