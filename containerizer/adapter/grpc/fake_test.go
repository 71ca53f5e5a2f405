package grpc_test

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berth-dev/berth/containerizer"
	grpcadapter "github.com/berth-dev/berth/containerizer/adapter/grpc"
)

// fakeNode is a node that does nothing, and answers all the same. What is called
// "none" does not exist.
type fakeNode struct{}

func known(name string) error {
	if name == "none" {
		return fmt.Errorf("%q: %w", name, containerizer.ErrNotFound)
	}
	return nil
}

// fakeEngine is its engine.
type fakeEngine struct{}

var _ containerizer.Engine = fakeEngine{}

func (fakeEngine) Prepare(_ context.Context, id containerizer.ContainerID, _ *containerizer.Spec) error {
	return known(id.String())
}

func (fakeEngine) Start(_ context.Context, id containerizer.ContainerID, o containerizer.LaunchOptions) (containerizer.Session, error) {
	return begin(id, o.Attach)
}

func (fakeEngine) Launch(_ context.Context, id containerizer.ContainerID, _ *containerizer.Spec, o containerizer.LaunchOptions) (containerizer.Session, error) {
	return begin(id, o.Attach)
}

func (fakeEngine) Wait(_ context.Context, id containerizer.ContainerID) (*containerizer.Termination, error) {
	return &containerizer.Termination{}, known(id.String())
}

func (fakeEngine) Stop(_ context.Context, id containerizer.ContainerID, _ *time.Duration) error {
	return known(id.String())
}

func (fakeEngine) Destroy(context.Context, containerizer.ContainerID) error { return nil }

func (fakeEngine) Kill(_ context.Context, id containerizer.ContainerID, _ int, _ bool) error {
	return known(id.String())
}

func (fakeEngine) Pause(_ context.Context, id containerizer.ContainerID) error {
	return known(id.String())
}

func (fakeEngine) Resume(_ context.Context, id containerizer.ContainerID) error {
	return known(id.String())
}

func (fakeEngine) Update(_ context.Context, id containerizer.ContainerID, _ *containerizer.Resources) error {
	return known(id.String())
}

func (fakeEngine) Exec(_ context.Context, id containerizer.ContainerID, _ *containerizer.Process, io *containerizer.IO) (containerizer.ExecProcess, error) {
	s, err := begin(id, io)
	return fakeExec{s}, err
}

func (fakeEngine) Attach(_ context.Context, id containerizer.ContainerID, io containerizer.IO) (containerizer.Session, error) {
	return begin(id, &io)
}

func (fakeEngine) List(context.Context, containerizer.Filter) ([]containerizer.Status, error) {
	return []containerizer.Status{{ID: "c", Spec: &containerizer.Spec{}, State: containerizer.StateRunning}}, nil
}

func (fakeEngine) Status(_ context.Context, id containerizer.ContainerID) (*containerizer.Status, error) {
	return &containerizer.Status{ID: id, Spec: &containerizer.Spec{}, State: containerizer.StateExited}, known(id.String())
}

func (fakeEngine) ResolveID(_ context.Context, nameOrID string) (containerizer.ContainerID, error) {
	return "c", known(nameOrID)
}

func (fakeEngine) Usage(_ context.Context, id containerizer.ContainerID) (*containerizer.Usage, error) {
	return &containerizer.Usage{At: time.Now()}, known(id.String())
}

func (fakeEngine) Processes(_ context.Context, id containerizer.ContainerID) ([]int, error) {
	return []int{1}, known(id.String())
}

func (fakeEngine) Events(context.Context, uint64) (<-chan containerizer.Event, error) {
	events := make(chan containerizer.Event, 1)
	events <- containerizer.Event{ID: "c", Type: containerizer.EventStarted}
	close(events)
	return events, nil
}

func (fakeEngine) Rename(_ context.Context, id containerizer.ContainerID, _ string) error {
	return known(id.String())
}

func (fakeEngine) ReopenLog(_ context.Context, id containerizer.ContainerID) error {
	return known(id.String())
}

func (fakeEngine) Recover(context.Context, bool) (*containerizer.RecoverReport, error) {
	return &containerizer.RecoverReport{}, nil
}

// fakeSession reads all that it is given.
type fakeSession struct {
	done, left chan struct{}
	detach     func()
}

func begin(id containerizer.ContainerID, client *containerizer.IO) (containerizer.Session, error) {
	if err := known(id.String()); err != nil || client == nil {
		return nil, err
	}
	s := &fakeSession{done: make(chan struct{}), left: make(chan struct{})}
	s.detach = sync.OnceFunc(func() { close(s.left) })
	go func() {
		defer close(s.done)
		if client.Stdin != nil {
			_, _ = io.Copy(io.Discard, client.Stdin)
		}
		if client.Stdout != nil {
			_, _ = client.Stdout.Write([]byte("out"))
		}
	}()
	return s, nil
}

func (s *fakeSession) Wait() error {
	select {
	case <-s.done:
	case <-s.left:
	}
	return nil
}
func (s *fakeSession) Detach() { s.detach() }

type fakeExec struct{ session containerizer.Session }

func (fakeExec) PID() int                         { return 7 }
func (e fakeExec) Session() containerizer.Session { return e.session }
func (fakeExec) Wait(context.Context) (*containerizer.Termination, error) {
	return &containerizer.Termination{}, nil
}
func (fakeExec) Signal(context.Context, int) error { return nil }
func (fakeExec) Close() error                      { return nil }

// fakeStore is its image store.
type fakeStore struct{}

var _ grpcadapter.Store = fakeStore{}

func (fakeStore) Pull(_ context.Context, s containerizer.ImageSource, o containerizer.PullOptions) (*containerizer.Image, error) {
	if o.Progress != nil {
		o.Progress(containerizer.Progress{})
	}
	return &containerizer.Image{}, known(s.Reference)
}

func (fakeStore) List(context.Context) ([]containerizer.Image, error) {
	return make([]containerizer.Image, 3), nil
}

func (fakeStore) Inspect(_ context.Context, name string) (*containerizer.Image, error) {
	return &containerizer.Image{}, known(name)
}

func (fakeStore) Tag(_ context.Context, name, _ string) error { return known(name) }

func (fakeStore) Remove(_ context.Context, name string, _ bool) (*containerizer.PruneReport, error) {
	return &containerizer.PruneReport{}, known(name)
}

func (fakeStore) Load(_ context.Context, r io.Reader, _ containerizer.PullOptions) ([]containerizer.Image, error) {
	_, err := io.Copy(io.Discard, r)
	return nil, err
}

func (fakeStore) Save(_ context.Context, w io.Writer, _ containerizer.ArchiveFormat, _ []string) error {
	_, err := w.Write(make([]byte, 100))
	return err
}

func (fakeStore) Usage(context.Context) (*containerizer.StoreUsage, error) {
	return &containerizer.StoreUsage{}, nil
}

func (fakeStore) Prune(context.Context, containerizer.PruneOptions) (*containerizer.PruneReport, error) {
	return &containerizer.PruneReport{}, nil
}

func (fakeStore) Check(context.Context, bool) (*containerizer.StoreCheck, error) {
	return &containerizer.StoreCheck{}, nil
}

func (fakeStore) Pin(_ context.Context, name string, _ bool) error { return known(name) }

func (fakeStore) Push(_ context.Context, name, _ string, _ containerizer.CopyOptions) (digest.Digest, error) {
	return "", known(name)
}

func (fakeStore) Copy(_ context.Context, source, _ string, _ containerizer.CopyOptions) (digest.Digest, error) {
	return "", known(source)
}

func (fakeStore) Import(_ context.Context, r io.Reader, _ containerizer.ImportOptions) (*containerizer.Image, error) {
	_, err := io.Copy(io.Discard, r)
	return &containerizer.Image{}, err
}

// fakeArtifacts is what brings its artifacts.
type fakeArtifacts struct{}

func (fakeArtifacts) Fetch(_ context.Context, dir string, _ []containerizer.Artifact, _ containerizer.FetchOptions) ([]containerizer.FetchedArtifact, error) {
	return nil, known(dir)
}

func (fakeArtifacts) CacheUsage(context.Context) (*containerizer.ArtifactCacheUsage, error) {
	return &containerizer.ArtifactCacheUsage{}, nil
}

func (fakeArtifacts) PruneCache(context.Context, time.Duration) (int64, error) { return 0, nil }

// Info implements [grpcadapter.Daemon].
func (fakeNode) Info(context.Context) grpcadapter.Info {
	return grpcadapter.Info{Version: "test", Conditions: []grpcadapter.Condition{{Name: "DiskPressure", Since: time.Unix(1, 0)}}}
}

// Reload implements [grpcadapter.Daemon].
func (fakeNode) Reload(context.Context) (applied, restart []string, err error) { return nil, nil, nil }

// Program implements [grpcadapter.Daemon].
func (fakeNode) Program(_ context.Context, id containerizer.ContainerID, _ *containerizer.Spec) (string, error) {
	return "program", known(id.String())
}
