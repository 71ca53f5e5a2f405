package launcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/internal/rawfile"
	"github.com/berth-dev/berth/containerizer/monitor/record"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// monitorPoll is how often Wait looks whether a monitor that does not answer has ended.
const monitorPoll = 5 * time.Millisecond

// Status implements [containerizer.Launcher].
func (l *Launcher) Status(c *containerizer.Container) (containerizer.LauncherStatus, error) {
	exit, exited, err := readExit(c.Dir)
	if err != nil {
		return containerizer.LauncherStatus{}, err
	}
	p, err := readProcess(c.Dir)
	if errors.Is(err, fs.ErrNotExist) && !exited {
		return containerizer.LauncherStatus{}, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return containerizer.LauncherStatus{}, err
	}
	s := containerizer.LauncherStatus{Known: true, PID: int(p.PID), MonitorPID: int(p.MonitorPID), StartedAt: moment(p.StartedAt)}
	switch {
	case exited:
		s.Termination = termination(exit)
	case p.PID == 0: // namespaces without a process
		s.Running = lives(p.MonitorPID, p.MonitorStartTicks)
	default:
		// A process that has just ended is running until its monitor has recorded how.
		s.Running = lives(p.PID, p.StartTicks) || lives(p.MonitorPID, p.MonitorStartTicks)
	}
	if !s.Running && s.Termination == nil {
		// The exit may have been recorded since it was looked for.
		if exit, exited, err := readExit(c.Dir); err == nil && exited {
			s.Termination = termination(exit)
		} else {
			s.Termination = lost()
		}
	}
	return s, nil
}

// Wait implements [containerizer.Launcher].
func (l *Launcher) Wait(ctx context.Context, c *containerizer.Container) (*containerizer.Termination, error) {
	exit, exited, err := readExit(c.Dir)
	if err != nil || exited {
		return termination(exit), err
	}
	m, done, err := l.monitor(c)
	if err == nil {
		e, err := m.Wait(ctx, c.ID.String())
		done()
		if err == nil {
			return termination(record.Exit{WaitStatus: uint64(e.Status), FinishedAt: uint64(e.FinishedAt.UnixNano())}), nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	// The monitor has ended or forgotten the process: the record knows, and
	// otherwise the process itself.
	if err := waitProcess(ctx, c); err != nil {
		return nil, err
	}
	for {
		s, err := l.Status(c)
		switch {
		case err != nil || s.Termination != nil:
			return s.Termination, err
		case !s.Known:
			return nil, fmt.Errorf("container %q was not launched: %w", c.ID, containerizer.ErrFailedPrecondition)
		}
		// Its monitor is about to record the end, or to end itself: it was killed, and
		// is not yet gone.
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(monitorPoll):
		}
	}
}

// waitProcess waits for the recorded process, if it lives.
func waitProcess(ctx context.Context, c *containerizer.Container) error {
	p, err := openProcess(c)
	if errors.Is(err, containerizer.ErrFailedPrecondition) || errors.Is(err, containerizer.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { _ = p.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	go func() {
		defer close(ended)
		waitReadable(p)
	}()
	<-ended
	return ctx.Err()
}

// waitReadable waits until a pidfd is readable: the process has ended.
func waitReadable(p *os.File) {
	raw, err := p.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool { // a deadline ends it, which the caller sees in ctx
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		return err != nil || n > 0
	})
}

// openProcess returns a pidfd of c's process, which waits in the poller.
func openProcess(c *containerizer.Container) (*os.File, error) {
	rec, err := readProcess(c.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("container %q was not launched: %w", c.ID, containerizer.ErrFailedPrecondition)
	}
	if err != nil {
		return nil, err
	}
	gone := fmt.Errorf("container %q has no process: %w", c.ID, containerizer.ErrFailedPrecondition)
	if rec.PID == 0 {
		return nil, gone
	}
	fd, err := unix.PidfdOpen(int(rec.PID), unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil, gone
	}
	if err != nil {
		return nil, fmt.Errorf("pidfd_open %d: %w", rec.PID, err)
	}
	p := os.NewFile(uintptr(fd), "pidfd")
	// The descriptor holds whatever has the pid now; only then it can be compared.
	if !lives(rec.PID, rec.StartTicks) {
		_ = p.Close()
		return nil, gone
	}
	return p, nil
}

func signalFD(p *os.File, sig int) error {
	return unix.PidfdSendSignal(int(p.Fd()), unix.Signal(sig), nil, 0)
}

// lives says whether the process that had pid at that start time still runs.
func lives(pid, startTicks uint64) bool {
	stat, err := rawfile.Read("/proc/" + strconv.FormatUint(pid, 10) + "/stat")
	if err != nil {
		return false
	}
	ticks, err := record.StartTicks(stat)
	return err == nil && ticks == startTicks && !zombie(stat)
}

// zombie says whether the process of a /proc/PID/stat has ended and awaits wait(2).
func zombie(stat []byte) bool {
	i := bytes.LastIndexByte(stat, ')')
	return i < 0 || i+2 < len(stat) && (stat[i+2] == 'Z' || stat[i+2] == 'X')
}

func readProcess(dir string) (record.Process, error) {
	b, err := rawfile.Read(filepath.Join(dir, record.ProcessFile))
	if err != nil {
		return record.Process{}, err
	}
	p, err := record.ParseProcess(b)
	if err != nil {
		return p, fmt.Errorf("%s: %w: %w", filepath.Join(dir, record.ProcessFile), err, containerizer.ErrDataCorrupt)
	}
	return p, nil
}

func readExit(dir string) (exit record.Exit, exited bool, err error) {
	b, err := rawfile.Read(filepath.Join(dir, record.ExitFile))
	if errors.Is(err, fs.ErrNotExist) {
		return exit, false, nil
	}
	if err == nil {
		exit, err = record.ParseExit(b)
	}
	if err != nil {
		return exit, false, fmt.Errorf("%s: %w: %w", filepath.Join(dir, record.ExitFile), err, containerizer.ErrDataCorrupt)
	}
	return exit, true, nil
}

// removeRecords removes what a monitor leaves in a directory.
func removeRecords(dir string) error {
	for _, name := range []string{record.ProcessFile, record.ExitFile, wire.SocketName, namespacesFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the record: %w", err)
		}
	}
	return nil
}

// termination translates an exit record.
func termination(e record.Exit) *containerizer.Termination {
	ws := syscall.WaitStatus(e.WaitStatus)
	t := &containerizer.Termination{WaitStatus: uint32(ws), FinishedAt: moment(e.FinishedAt), Reason: containerizer.ReasonError}
	switch {
	case ws.Signaled():
		t.Signal = int(ws.Signal())
		t.ExitCode = 128 + t.Signal
	default:
		t.ExitCode = ws.ExitStatus()
		if t.ExitCode == 0 {
			t.Reason = containerizer.ReasonCompleted
		}
	}
	return t
}

// lost is the termination of a process whose monitor took the status with it.
func lost() *containerizer.Termination {
	return &containerizer.Termination{
		ExitCode: 255, WaitStatus: 255 << 8, Reason: containerizer.ReasonUnknown, FinishedAt: time.Now().UTC(),
		Message: "its monitor was killed, and the exit status is lost",
	}
}

func moment(ns uint64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(ns)).UTC()
}
