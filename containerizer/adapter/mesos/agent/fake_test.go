package agent_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/agent"
	"github.com/berth-dev/berth/containerizer/log"
)

// engine is one that launches nothing, and remembers.
type engine struct {
	containerizer.Engine // what is not here is not called

	mu         sync.Mutex
	containers map[containerizer.ContainerID]*containerizer.Status
	killed     []int
	fail       error // of Launch
	// begun, if set, is called with the streams of what is launched.
	begun func(*containerizer.IO)
}

func (e *engine) put(id containerizer.ContainerID, s *containerizer.Spec, state containerizer.State) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.Labels["dev.berth.mesos/class"] != "" {
		s.Origin = &containerizer.Origin{Adapter: "mesos"}
	}
	e.containers[id] = &containerizer.Status{ID: id, Spec: s, State: state}
}

func (e *engine) Status(_ context.Context, id containerizer.ContainerID) (*containerizer.Status, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if st := e.containers[id]; st != nil {
		c := *st
		return &c, nil
	}
	return nil, containerizer.ErrNotFound
}

func (e *engine) Launch(_ context.Context, id containerizer.ContainerID, s *containerizer.Spec, o containerizer.LaunchOptions) (containerizer.Session, error) {
	if e.fail != nil {
		return nil, e.fail
	}
	e.put(id, s, containerizer.StateRunning)
	if e.begun != nil {
		done := make(chan struct{})
		go func() {
			defer close(done)
			e.begun(o.Attach)
		}()
		return &session{done}, nil
	}
	done := make(chan struct{})
	close(done)
	return &session{done}, nil
}

type session struct{ done chan struct{} }

func (s *session) Wait() error { <-s.done; return nil }
func (s *session) Detach()     {}

func (e *engine) Wait(_ context.Context, id containerizer.ContainerID) (*containerizer.Termination, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.containers[id].Termination, nil
}

func (e *engine) Kill(_ context.Context, _ containerizer.ContainerID, sig int, _ bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.killed = append(e.killed, sig)
	return nil
}

func (e *engine) Stop(_ context.Context, id containerizer.ContainerID, _ *time.Duration) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.containers[id].State = containerizer.StateExited
	return nil
}

func (e *engine) Destroy(_ context.Context, id containerizer.ContainerID) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.containers, id)
	return nil
}

func (e *engine) List(_ context.Context, f containerizer.Filter) ([]containerizer.Status, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []containerizer.Status
	for _, st := range e.containers {
		for label, want := range f.Labels {
			if got, is := st.Spec.Labels[label]; is && (want == "" || got == want) {
				all = append(all, *st)
			}
		}
	}
	slices.SortFunc(all, func(a, b containerizer.Status) int { return bytes.Compare([]byte(a.ID), []byte(b.ID)) })
	return all, nil
}

func (e *engine) Usage(context.Context, containerizer.ContainerID) (*containerizer.Usage, error) {
	return &containerizer.Usage{At: time.Unix(1, 0)}, nil
}

// images are a store with one image of every name.
type images struct {
	containerizer.Images

	config v1.ImageConfig
}

func (i *images) Pull(context.Context, containerizer.ImageSource, containerizer.PullOptions) (*containerizer.Image, error) {
	return &containerizer.Image{Configuration: &v1.Image{Config: i.config}}, nil
}

func (i *images) Inspect(ctx context.Context, _ string) (*containerizer.Image, error) {
	return i.Pull(ctx, containerizer.ImageSource{}, containerizer.PullOptions{})
}

// node tells little.
type node struct{ recovering bool }

func (n *node) Ready() bool                     { return !n.recovering }
func (*node) Version() (version, commit string) { return "1.2.3", "abc" }
func (*node) Flags() map[string]string          { return map[string]string{"b": "2", "a": "1"} }

func (*node) Metrics(context.Context) (map[string]float64, error) {
	return map[string]float64{"m": 1}, nil
}
func (*node) Verbosity() uint32                  { return 0 }
func (*node) SetVerbosity(uint32, time.Duration) {}

// fixture is a server over stand-ins.
type fixture struct {
	engine *engine
	images *images
	node   *node
	server *agent.Server
	dir    string
}

func newFixture(t *testing.T, o agent.Options) *fixture {
	t.Helper()
	f := &fixture{engine: &engine{containers: map[containerizer.ContainerID]*containerizer.Status{}}, images: &images{}, node: &node{}, dir: t.TempDir()}
	o.WorkDir = f.dir
	var err error
	f.server, err = agent.New(agent.Parts{Engine: f.engine, Images: f.images, Node: f.node, Log: log.Nop()}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.server.Close)
	return f
}

// parent makes a running root container of the agent.
func (f *fixture) parent(id containerizer.ContainerID) {
	f.engine.put(id, &containerizer.Spec{
		Labels:  map[string]string{"dev.berth.mesos/class": "standalone", "dev.berth.mesos/root": "host", "dev.berth.mesos/sandbox": f.dir + "/containers/" + string(id)},
		Process: containerizer.Process{Env: []string{"FROM=parent"}, WorkingDir: "/parent", User: "0:0"},
	}, containerizer.StateRunning)
}

// headers are those of a call in JSON.
func headers(pairs ...string) http.Header {
	h := http.Header{"Content-Type": {"application/json"}}
	for i := 0; i < len(pairs); i += 2 {
		h.Del(pairs[i])
		if pairs[i+1] != "" {
			h.Set(pairs[i], pairs[i+1])
		}
	}
	return h
}

func (f *fixture) do(t *testing.T, h http.Header, body string) *http.Response {
	t.Helper()
	return f.request(t, http.MethodPost, "/api/v1", h, body)
}

func (f *fixture) request(t *testing.T, method, path string, h http.Header, body string) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, bytes.NewReader([]byte(body)))
	r.Header = h
	w := httptest.NewRecorder()
	f.server.ServeHTTP(w, r)
	return w.Result()
}

func text(t *testing.T, r *http.Response) string {
	t.Helper()
	defer r.Body.Close() //nolint:errcheck // of a recorder
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
