package executor_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/codec"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/executor"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/executortest"
	"github.com/berth-dev/berth/containerizer/log"
)

// engine is one whose containers end when the test says so.
type engine struct {
	containerizer.Engine // what is not here is not called

	mu         sync.Mutex
	containers map[containerizer.ContainerID]*container
	updates    []*containerizer.Resources
	destroyed  []containerizer.ContainerID
	signals    []int
	launched   []string // tasks
	// onLaunch, onSignal and onExec say what happens; nil is what usually does.
	onLaunch func(context.Context, *containerizer.Spec) error
	onSignal func(c *container, sig int)
	onExec   func(*containerizer.Process) int
	// away is an engine that is not there for a moment.
	away int
}

type container struct {
	spec   *containerizer.Spec
	secret []string
	id     containerizer.ContainerID
	end    chan struct{}
	how    *containerizer.Termination
	once   sync.Once
}

// ends ends the container.
func (c *container) ends(t containerizer.Termination) {
	c.once.Do(func() {
		c.how = &t
		close(c.end)
	})
}

func exited(code int) containerizer.Termination {
	reason := containerizer.ReasonCompleted
	if code != 0 {
		reason = containerizer.ReasonError
	}
	return containerizer.Termination{ExitCode: code, WaitStatus: uint32(code) << 8, Reason: reason}
}

func (e *engine) get(id containerizer.ContainerID) (*container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.away > 0 {
		e.away--
		return nil, containerizer.ErrUnavailable
	}
	if c := e.containers[id]; c != nil {
		return c, nil
	}
	return nil, containerizer.ErrNotFound
}

func (e *engine) Launch(ctx context.Context, id containerizer.ContainerID, s *containerizer.Spec, o containerizer.LaunchOptions) (containerizer.Session, error) {
	if e.onLaunch != nil {
		if err := e.onLaunch(ctx, s); err != nil {
			return nil, err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.launched = append(e.launched, s.Labels["dev.berth.mesos/task"])
	e.containers[id] = &container{spec: s, id: id, end: make(chan struct{}), secret: o.SecretEnv}
	return &session{e.containers[id]}, nil
}

type session struct{ c *container }

func (s *session) Wait() error { <-s.c.end; return nil }
func (s *session) Detach()     {}

func (e *engine) Status(_ context.Context, id containerizer.ContainerID) (*containerizer.Status, error) {
	c, err := e.get(id)
	if err != nil {
		return nil, err
	}
	return &containerizer.Status{ID: id, Spec: c.spec, State: containerizer.StateRunning, PID: 4242}, nil
}

func (e *engine) Wait(ctx context.Context, id containerizer.ContainerID) (*containerizer.Termination, error) {
	c, err := e.get(id)
	if err != nil {
		return nil, err
	}
	select {
	case <-c.end:
		return c.how, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (e *engine) Kill(_ context.Context, id containerizer.ContainerID, sig int, _ bool) error {
	c, err := e.get(id)
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.signals = append(e.signals, sig)
	f := e.onSignal
	e.mu.Unlock()
	if f != nil {
		f(c, sig)
	} else {
		c.ends(containerizer.Termination{ExitCode: 128 + sig, Reason: containerizer.ReasonError, WaitStatus: uint32(128+sig) << 8})
	}
	return nil
}

func (e *engine) Stop(_ context.Context, id containerizer.ContainerID, _ *time.Duration) error {
	c, err := e.get(id)
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.signals = append(e.signals, 9)
	e.mu.Unlock()
	c.ends(containerizer.Termination{ExitCode: 137, Signal: 9, WaitStatus: 9, Reason: containerizer.ReasonKilled})
	return nil
}

func (e *engine) Destroy(_ context.Context, id containerizer.ContainerID) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for other, c := range e.containers {
		if other == id || other.HasAncestor(id) {
			c.ends(containerizer.Termination{Signal: 9, Reason: containerizer.ReasonKilled})
			delete(e.containers, other)
		}
	}
	e.destroyed = append(e.destroyed, id)
	return nil
}

func (e *engine) Update(_ context.Context, _ containerizer.ContainerID, r *containerizer.Resources) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.updates = append(e.updates, r)
	return nil
}

func (e *engine) List(context.Context, containerizer.Filter) ([]containerizer.Status, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []containerizer.Status
	for _, id := range slices.Sorted(maps.Keys(e.containers)) {
		all = append(all, containerizer.Status{ID: id, Spec: e.containers[id].spec})
	}
	return all, nil
}

func (e *engine) Exec(_ context.Context, _ containerizer.ContainerID, p *containerizer.Process, _ *containerizer.IO) (containerizer.ExecProcess, error) {
	e.mu.Lock()
	f := e.onExec
	e.mu.Unlock()
	return &execProcess{code: f(p)}, nil
}

// execProcess has ended when it begins; a negative code never ends.
type execProcess struct {
	containerizer.ExecProcess

	code int
}

func (p *execProcess) Wait(ctx context.Context) (*containerizer.Termination, error) {
	if p.code < 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &containerizer.Termination{ExitCode: p.code}, nil
}
func (*execProcess) Signal(context.Context, int) error { return nil }
func (*execProcess) Close() error                      { return nil }

// images are a store in which there is everything.
type images struct{ containerizer.Images }

func (images) Pull(context.Context, containerizer.ImageSource, containerizer.PullOptions) (*containerizer.Image, error) {
	return &containerizer.Image{}, nil
}

// artifacts notes what is fetched.
type artifacts struct{ uris []string }

func (a *artifacts) Fetch(_ context.Context, _ string, list []containerizer.Artifact, _ containerizer.FetchOptions) ([]containerizer.FetchedArtifact, error) {
	for _, x := range list {
		if strings.Contains(x.URI, "missing") {
			return nil, containerizer.ErrNotFound
		}
		a.uris = append(a.uris, x.URI)
	}
	return nil, nil
}

// fixture is an executor over stand-ins, and its agent.
type fixture struct {
	*executortest.Agent

	t         *testing.T
	dir       string
	engine    *engine
	artifacts *artifacts
	over      chan error
	cancel    context.CancelFunc
}

// start starts an executor. env is what differs from the agent's usual variables.
func start(t *testing.T, o executor.Options, env map[string]string) *fixture {
	t.Helper()
	f := prepare(t)
	f.run(o, env)
	return f
}

func prepare(t *testing.T) *fixture {
	t.Helper()
	return &fixture{Agent: executortest.New(t), t: t, dir: t.TempDir(), engine: &engine{containers: map[containerizer.ContainerID]*container{}}, artifacts: &artifacts{}}
}

func (f *fixture) run(o executor.Options, more map[string]string) {
	f.t.Helper()
	all := f.Environment(f.dir, map[string]string{"MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "500ms"})
	maps.Copy(all, more)
	env, err := executor.ParseEnvironment(func(name string) string { return all[name] })
	if err != nil {
		f.t.Fatal(err)
	}
	if o.Failsafe == 0 {
		o.Failsafe = executortest.Patience
	}
	x := executor.New(executor.Parts{Engine: f.engine, Images: images{}, Artifacts: f.artifacts, Log: log.Nop()}, env, o)
	ctx, cancel := context.WithCancel(f.t.Context())
	f.cancel, f.over = cancel, make(chan error, 1)
	over := f.over
	go func() { over <- x.Run(ctx) }()
	f.t.Cleanup(func() {
		cancel()
		select {
		case <-over: //nolint:errcheck // how it ended is for the test
		case <-time.After(executortest.Patience):
			f.t.Error("the executor does not end")
		}
	})
}

// ended waits for the executor's end, which left nothing.
func (f *fixture) ended() error {
	f.t.Helper()
	select {
	case err := <-f.over:
		f.over <- err // for who cleans up
		f.engine.mu.Lock()
		defer f.engine.mu.Unlock()
		if len(f.engine.containers) > 0 {
			f.t.Errorf("containers are left: %v", slices.Collect(maps.Keys(f.engine.containers)))
		}
		return err
	case <-time.After(executortest.Patience):
		f.t.Fatal("the executor does not end")
		return nil
	}
}

func (f *fixture) endsWell() {
	f.t.Helper()
	if err := f.ended(); err != nil {
		f.t.Errorf("the executor ended: %v", err)
	}
}

// container waits for that of a task.
func (f *fixture) container(task string) *container {
	f.t.Helper()
	for deadline := time.Now().Add(executortest.Patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		f.engine.mu.Lock()
		for _, c := range f.engine.containers {
			if c.spec.Labels["dev.berth.mesos/task"] == task {
				f.engine.mu.Unlock()
				return c
			}
		}
		f.engine.mu.Unlock()
	}
	f.t.Fatalf("task %q has no container", task)
	return nil
}

func (f *fixture) signals() []int {
	f.engine.mu.Lock()
	defer f.engine.mu.Unlock()
	return slices.Clone(f.engine.signals)
}

func forms() map[string]codec.Form {
	return map[string]codec.Form{"json": codec.JSON, "protobuf": codec.Protobuf}
}

func file(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Stat(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}
