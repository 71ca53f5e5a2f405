package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// poll is how often the fakes look at files that another process writes.
const poll = 2 * time.Millisecond

// Launcher runs containers as plain processes of the host, each with a monitor of
// its own that records its end. Its state is in Container.Dir, as the contract
// demands. The zero value is ready.
type Launcher struct {
	// OnLaunch, when set, is called before anything is made; its error fails the
	// launch.
	OnLaunch func(ctx context.Context, c *containerizer.Container) error

	wg sync.WaitGroup
}

var (
	_ containerizer.Launcher = (*Launcher)(nil)
	_ containerizer.Preparer = (*Launcher)(nil)
)

func folder(c *containerizer.Container) string { return filepath.Join(c.Dir, "launcher") }

// Prepare implements [containerizer.Preparer].
func (*Launcher) Prepare(_ context.Context, c *containerizer.Container) {
	_ = os.Mkdir(folder(c), 0o700) // Launch tells
}

// Launch implements [containerizer.Launcher].
func (l *Launcher) Launch(ctx context.Context, r containerizer.LaunchRequest) (_ *containerizer.Launched, err error) {
	c := r.Container
	if l.OnLaunch != nil {
		if err := l.OnLaunch(ctx, c); err != nil {
			return nil, err
		}
	}
	dir := folder(c)
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Cleanup(context.WithoutCancel(ctx), c))
		}
	}()
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	for _, fifo := range []string{startFIFO, stdinFIFO} {
		if err := unix.Mkfifo(filepath.Join(dir, fifo), 0o600); err != nil {
			return nil, err
		}
	}
	p := c.Spec.Process
	o := order{
		Argv: slices.Concat(p.Entrypoint, p.Args), Env: slices.Concat(r.Info.Env, p.Env), Stdin: p.Stdin,
		Hold: r.Hold || r.Info.Barrier,
	}
	if err := writeJSON(dir, orderFile, &o); err != nil {
		return nil, err
	}
	ended, err := l.startMonitor(dir)
	if err != nil {
		return nil, err
	}
	return l.launched(ctx, r, ended)
}

// startMonitor starts a monitor; ended gets why it ended, nil for an end in order.
func (l *Launcher) startMonitor(dir string) (ended <-chan error, err error) {
	var said bytes.Buffer
	cmd := exec.Command("/proc/self/exe") //nolint:noctx // it outlives the call
	cmd.Env = append(os.Environ(), monitorEnv+"="+dir, "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a monitor: %w", err)
	}
	out := make(chan error, 1)
	l.wg.Go(func() {
		if err := cmd.Wait(); err != nil {
			out <- fmt.Errorf("monitor: %w: %s", err, bytes.TrimSpace(said.Bytes()))
		}
	})
	return out, nil
}

// launched waits until the monitor is where r wants it.
func (l *Launcher) launched(ctx context.Context, r containerizer.LaunchRequest, ended <-chan error) (*containerizer.Launched, error) {
	c, p := r.Container, &r.Container.Spec.Process
	sandbox := len(p.Entrypoint)+len(p.Args) == 0
	s, err := l.await(ctx, c, ended, func(s *monitorState) bool {
		return s.PID > 0 || s.FailCode > 0 || ((r.Hold || r.Info.Barrier || sandbox) && s.MonitorPID > 0)
	})
	if err != nil {
		return nil, err
	}
	if r.Info.Barrier {
		if err := r.Isolate(ctx, s.MonitorPID); err != nil {
			return nil, err
		}
	}
	out := &containerizer.Launched{PID: s.PID, MonitorPID: s.MonitorPID, StartedAt: s.StartedAt}
	if !r.Hold && !sandbox && r.Info.Barrier {
		if err := l.Start(ctx, c); err != nil {
			return nil, err
		}
		if s, err = l.state(c); err != nil {
			return nil, err
		}
		out.PID, out.StartedAt = s.PID, s.StartedAt
	}
	if err := failure(s); err != nil {
		return nil, err
	}
	if r.Hold {
		out.PID = s.MonitorPID
	}
	if r.IO != nil {
		out.Session = newSession(folder(c), *r.IO, 0)
	}
	return out, nil
}

func failure(s *monitorState) error {
	switch s.FailCode {
	case 0:
		return nil
	case 127:
		return fmt.Errorf("%s: %w", s.Failure, containerizer.ErrCommandNotFound)
	}
	return fmt.Errorf("%s: %w", s.Failure, containerizer.ErrCommandNotExecutable)
}

func (*Launcher) state(c *containerizer.Container) (*monitorState, error) {
	var s monitorState
	err := readJSON(filepath.Join(folder(c), stateFile), &s)
	return &s, err
}

// await waits for a state of c's monitor.
func (l *Launcher) await(ctx context.Context, c *containerizer.Container, ended <-chan error, until func(*monitorState) bool) (*monitorState, error) {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		if s, err := l.state(c); err == nil && until(s) {
			return s, nil
		}
		select {
		case <-tick.C:
		case err := <-ended:
			return nil, err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Start implements [containerizer.Launcher].
func (l *Launcher) Start(ctx context.Context, c *containerizer.Container) error {
	f, err := os.OpenFile(filepath.Join(folder(c), startFIFO), os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ENXIO) { // the monitor is not there yet
		select {
		case <-time.After(poll):
			return l.Start(ctx, c)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("start: %w: %w", err, containerizer.ErrFailedPrecondition)
	}
	_ = f.Close() // nothing is written
	s, err := l.await(ctx, c, nil, func(s *monitorState) bool { return s.PID > 0 || s.FailCode > 0 })
	if err != nil {
		return err
	}
	return failure(s)
}

// Status implements [containerizer.Launcher].
func (l *Launcher) Status(c *containerizer.Container) (containerizer.LauncherStatus, error) {
	s, err := l.state(c)
	if errors.Is(err, fs.ErrNotExist) {
		_, err := os.Stat(filepath.Join(folder(c), orderFile))
		return containerizer.LauncherStatus{Known: err == nil}, nil
	}
	if err != nil {
		return containerizer.LauncherStatus{}, err
	}
	out := containerizer.LauncherStatus{Known: true, PID: s.PID, MonitorPID: s.MonitorPID, StartedAt: s.StartedAt}
	if s.FailCode > 0 {
		out.Termination = &containerizer.Termination{ExitCode: s.FailCode, Reason: containerizer.ReasonLaunchFailed, Message: s.Failure}
		return out, nil
	}
	monitorLives := l.monitorLives(c) // before the exit file, which it writes last
	var t containerizer.Termination
	switch err := readJSON(filepath.Join(folder(c), exitFile), &t); {
	case err == nil:
		out.Termination = &t
	case !monitorLives:
		out.Termination = &containerizer.Termination{
			ExitCode: 255, Reason: containerizer.ReasonUnknown, Message: "its monitor was killed", FinishedAt: time.Now().UTC(),
		}
	default:
		out.Running = true
		if out.PID == 0 && !isSandbox(c) {
			out.PID = s.MonitorPID // held
		}
	}
	return out, nil
}

func isSandbox(c *containerizer.Container) bool {
	var o order
	err := readJSON(filepath.Join(folder(c), orderFile), &o)
	return err == nil && len(o.Argv) == 0
}

func (*Launcher) monitorLives(c *containerizer.Container) bool {
	f, err := os.Open(filepath.Join(folder(c), lockFile))
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // only read
	return errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

// Wait implements [containerizer.Launcher].
func (l *Launcher) Wait(ctx context.Context, c *containerizer.Container) (*containerizer.Termination, error) {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		s, err := l.Status(c)
		switch {
		case err != nil:
			return nil, err
		case !s.Known:
			return nil, fmt.Errorf("no trace of container %q: %w", c.ID, containerizer.ErrNotFound)
		case s.Termination != nil:
			return s.Termination, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Signal implements [containerizer.Launcher].
func (l *Launcher) Signal(_ context.Context, c *containerizer.Container, sig int) error {
	s, err := l.Status(c)
	if err != nil {
		return err
	}
	if !s.Running || s.PID == 0 {
		return fmt.Errorf("container %q has no process: %w", c.ID, containerizer.ErrFailedPrecondition)
	}
	err = unix.Kill(s.PID, unix.Signal(sig))
	if errors.Is(err, unix.ESRCH) { // it has ended since
		err = fmt.Errorf("container %q has no process: %w", c.ID, containerizer.ErrFailedPrecondition)
	}
	return err
}

// Reopen implements [containerizer.Launcher].
func (l *Launcher) Reopen(_ context.Context, c *containerizer.Container) error {
	s, err := l.Status(c)
	if err == nil && !s.Running {
		return fmt.Errorf("container %q has no log writer: %w", c.ID, containerizer.ErrFailedPrecondition)
	}
	return err
}

// Attach implements [containerizer.Launcher].
func (l *Launcher) Attach(_ context.Context, c *containerizer.Container, io containerizer.IO) (containerizer.Session, error) {
	s, err := l.Status(c)
	if err != nil {
		return nil, err
	}
	if !s.Running {
		return nil, fmt.Errorf("container %q does not run: %w", c.ID, containerizer.ErrFailedPrecondition)
	}
	var offset int64
	if st, err := os.Stat(filepath.Join(folder(c), outFile)); err == nil {
		offset = st.Size()
	}
	return newSession(folder(c), io, offset), nil
}

// Cleanup implements [containerizer.Launcher].
func (l *Launcher) Cleanup(ctx context.Context, c *containerizer.Container) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for l.monitorLives(c) {
		if s, err := l.state(c); err == nil && s.MonitorPID > 0 {
			_ = unix.Kill(s.MonitorPID, unix.SIGKILL) // it holds the lock, so the pid is its own
			if s.PID > 0 {
				_ = unix.Kill(-s.PID, unix.SIGKILL)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return os.RemoveAll(folder(c))
}

// Close waits for the monitors that this Launcher started.
func (l *Launcher) Close() { l.wg.Wait() }
