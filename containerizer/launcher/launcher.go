package launcher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch/seccomp"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/containerizer/monitor/client"
)

// Options configure a launcher.
type Options struct {
	// Monitor is the absolute path of berth-monitor. Required.
	Monitor string
	// ExitCommand is what the monitor executes, with the id of its root container as one
	// more argument, when that has ended and nobody waits to tear it down; nil executes
	// nothing.
	ExitCommand []string
	// ExitEnv is the environment of the exit command.
	ExitEnv []string
	// Log is told of poststop hooks that fail; nil is nobody.
	Log *log.Logger
	// Seccomp keeps compiled profiles; nil keeps them in memory only.
	Seccomp *seccomp.Cache
	// Spares is how many monitors are kept started for the roots to come, from the first
	// launch on: starting one takes as long as half of a launch. It is for processes that
	// live long.
	Spares int
	// Runtimes are the OCI runtimes of the node, by the names of Spec.Runtime.
	Runtimes map[string]Runtime
	// Tracer hears of the parts of a launch: compile, monitor and program; nil is nobody.
	Tracer containerizer.Tracer
}

// Launcher is the native launcher. It is safe for concurrent use.
type Launcher struct {
	opts    Options
	seccomp *seccomp.Cache

	mu sync.Mutex
	// monitors are those that this process has started, by root. They are only a
	// faster way to what dialling finds.
	monitors map[containerizer.ContainerID]*client.Client
	// expected are those whose container does not exist yet.
	expected map[containerizer.ContainerID]*client.Client
	// spares have no container yet.
	spares []*client.Client
	closed bool
}

var (
	_ containerizer.Launcher        = (*Launcher)(nil)
	_ containerizer.Preparer        = (*Launcher)(nil)
	_ containerizer.NamespaceHolder = (*Launcher)(nil)
	_ containerizer.RuntimeChecker  = (*Launcher)(nil)
)

// New returns a launcher. It starts nothing.
func New(o Options) (*Launcher, error) {
	if o.Monitor == "" || o.Monitor[0] != '/' {
		return nil, fmt.Errorf("monitor %q is not an absolute path: %w", o.Monitor, containerizer.ErrInvalid)
	}
	if o.Seccomp == nil {
		o.Seccomp = seccomp.NewCache("")
	}
	return &Launcher{
		opts: o, seccomp: o.Seccomp,
		monitors: map[containerizer.ContainerID]*client.Client{}, expected: map[containerizer.ContainerID]*client.Client{},
	}, nil
}

// Prepare implements [containerizer.Preparer]: a root's monitor comes up while its
// image is provisioned.
func (l *Launcher) Prepare(_ context.Context, c *containerizer.Container) {
	if c.ID.IsRoot() {
		_, _ = l.start(c) // Launch tries again and says why it fails
	}
}

// Expect says that a launch of the root id follows, so that its monitor comes up
// while everything else is prepared. It is a hint like Prepare, before there is a
// container; Close undoes it when no launch came.
func (l *Launcher) Expect(id containerizer.ContainerID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.expected[id] != nil || l.monitors[id] != nil {
		return
	}
	if m, err := l.spawn(id); err == nil { // Launch tries again and says why it fails
		l.expected[id] = m
	}
}

// Close ends the monitors that were expected or kept and not needed.
func (l *Launcher) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.spares {
		_ = m.Close() // likewise
	}
	l.spares, l.closed = nil, true
	for _, m := range l.expected {
		_ = m.Close() // it has no container, and ends by itself
	}
	clear(l.expected)
}

// spawn makes a process that will be the monitor of id.
func (l *Launcher) spawn(id containerizer.ContainerID) (*client.Client, error) {
	o := client.Options{Env: l.opts.ExitEnv}
	if len(l.opts.ExitCommand) > 0 {
		o.ExitCommand = append(slices.Clone(l.opts.ExitCommand), id.String())
	}
	return client.Spawn(l.opts.Monitor, o)
}

// start starts the monitor of a root, unless it was started before.
func (l *Launcher) start(c *containerizer.Container) (m *client.Client, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := l.monitors[c.ID]; m != nil && !ended(m) {
		return m, nil
	}
	m, late := l.expected[c.ID], ""
	delete(l.expected, c.ID)
	if m == nil || ended(m) {
		if m = l.spare(c.ID); m != nil && len(l.opts.ExitCommand) > 0 {
			late = c.ID.String()
		}
	}
	if m == nil {
		if m, err = l.spawn(c.ID); err != nil {
			return nil, fmt.Errorf("start the monitor: %w", err)
		}
	}
	if err := m.Enter(c.Dir, late); err != nil {
		_ = m.Close() // the error is told
		return nil, fmt.Errorf("start the monitor: %w", err)
	}
	l.monitors[c.ID] = m
	return m, nil
}

func ended(m *client.Client) bool {
	select {
	case <-m.Done():
		return true
	default:
		return false
	}
}

// monitor returns a connection to the monitor of c's tree, and what to do with it
// afterwards.
func (l *Launcher) monitor(c *containerizer.Container) (m *client.Client, done func(), err error) {
	l.mu.Lock()
	m = l.monitors[c.ID.Root()]
	l.mu.Unlock()
	if m != nil && !ended(m) {
		return m, func() {}, nil
	}
	m, err = client.Dial(rootDir(c))
	if err != nil {
		return nil, nil, err
	}
	return m, func() { _ = m.Close() }, nil
}

// forget takes a monitor out of the table.
func (l *Launcher) forget(id containerizer.ContainerID) *client.Client {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.monitors[id]
	delete(l.monitors, id)
	return m
}

// Signal implements [containerizer.Launcher]. It needs no monitor: the process is
// found by its record and held by a descriptor before it is looked at.
func (l *Launcher) Signal(ctx context.Context, c *containerizer.Container, sig int) error {
	if f, err := foreignOf(c); err != nil || f != nil && sig != int(syscall.SIGKILL) {
		if err == nil {
			err = f.signal(ctx, c, sig)
		}
		return err
	}
	p, err := openProcess(c)
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	if err := signalFD(p, sig); err != nil {
		if errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("container %q has no process: %w", c.ID, containerizer.ErrFailedPrecondition)
		}
		return fmt.Errorf("send signal %d to container %q: %w", sig, c.ID, err)
	}
	return nil
}

// Reopen implements [containerizer.Launcher].
func (l *Launcher) Reopen(ctx context.Context, c *containerizer.Container) error {
	m, done, err := l.monitor(c)
	if err != nil {
		return err
	}
	defer done()
	return m.ReopenLog(ctx, c.ID.String())
}

// Start implements [containerizer.Launcher].
func (l *Launcher) Start(ctx context.Context, c *containerizer.Container) error {
	m, done, err := l.monitor(c)
	if err != nil {
		return err
	}
	defer done()
	f, err := foreignOf(c)
	if err != nil {
		return err
	}
	if f != nil {
		_, err := f.start(ctx, m, c.ID.String(), false)
		return err
	}
	hooks, err := l.recordedHooks(c)
	if err != nil {
		return err
	}
	if hooks.starts() {
		rec, err := readProcess(c.Dir)
		if err == nil {
			err = hooks.start(ctx, int(rec.PID))
		}
		if err != nil {
			return err
		}
	}
	p, err := m.Release(ctx, c.ID.String(), false)
	if err != nil {
		return l.explainHeld(c, err)
	}
	return hooks.started(ctx, p.PID)
}

// Attach implements [containerizer.Launcher].
func (l *Launcher) Attach(ctx context.Context, c *containerizer.Container, io containerizer.IO) (containerizer.Session, error) {
	if io.Files != nil {
		return nil, fmt.Errorf("descriptors can be handed over at launch only: %w", containerizer.ErrInvalid)
	}
	m, done, err := l.monitor(c)
	if err != nil {
		return nil, err
	}
	s, err := m.Attach(ctx, c.ID.String(), &io, false)
	if err != nil {
		done()
		return nil, err
	}
	return &session{s, done}, nil
}

// session ends a connection of its own with itself.
type session struct {
	*client.Session
	done func()
}

// Wait implements [containerizer.Session].
func (s *session) Wait() error {
	defer s.done()
	return s.Session.Wait()
}

// Detach implements [containerizer.Session].
func (s *session) Detach() {
	s.Session.Detach()
	s.done()
}

// Cleanup implements [containerizer.Launcher].
func (l *Launcher) Cleanup(ctx context.Context, c *containerizer.Container) error {
	f, err := foreignOf(c)
	if errors.Is(err, containerizer.ErrDataCorrupt) { // must not keep the container from going
		l.opts.Log.Warn("an OCI runtime is not told of the end", log.String("container_id", c.ID.String()), log.Error(err))
	} else if err != nil {
		return err
	}
	if f != nil {
		if err := f.stopped(ctx, l.opts.Log); err != nil {
			return err
		}
	}
	if err := l.cleanup(ctx, c); err != nil {
		return err
	}
	hooks, err := l.recordedHooks(c)
	if errors.Is(err, containerizer.ErrDataCorrupt) { // must not keep the container from going
		l.opts.Log.Warn("poststop hooks are lost", log.String("container_id", c.ID.String()), log.Error(err))
		return forgetHooks(c.Dir)
	}
	if err != nil {
		return err
	}
	return hooks.stopped(ctx)
}

// cleanup ends what is left of c's process, and of its monitor if it is a root.
func (l *Launcher) cleanup(ctx context.Context, c *containerizer.Container) error {
	if !c.ID.IsRoot() {
		return l.cleanupChild(ctx, c)
	}
	own := l.forget(c.ID)
	m, err := own, error(nil)
	if m == nil || ended(m) {
		m, err = client.Dial(c.Dir)
	}
	if err == nil {
		err = m.Shutdown(ctx, true)
		_ = m.Close()
	}
	if own != nil && own != m {
		_ = own.Close()
	}
	if err == nil || errors.Is(err, containerizer.ErrNotFound) || errors.Is(err, containerizer.ErrUnavailable) {
		return removeRecords(c.Dir)
	}
	return fmt.Errorf("end the monitor of %q: %w", c.ID, err)
}

// cleanupChild ends the namespaces that the monitor may hold for a child, and
// removes its records.
func (l *Launcher) cleanupChild(ctx context.Context, c *containerizer.Container) error {
	m, done, err := l.monitor(c)
	if err == nil {
		err = m.Signal(ctx, c.ID.String(), syscall.SIGKILL)
		done()
	}
	switch {
	case err == nil, errors.Is(err, containerizer.ErrNotFound), errors.Is(err, containerizer.ErrUnavailable), errors.Is(err, containerizer.ErrFailedPrecondition):
		return removeRecords(c.Dir)
	}
	return fmt.Errorf("end what is left of %q: %w", c.ID, err)
}
