package cri

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-dev/berth/containerizer"
)

// shown is an engine that shows containers, and counts how it is asked.
type shown struct {
	containerizer.Query
	mu       sync.Mutex
	statuses []containerizer.Status
	at       map[containerizer.ContainerID]int
	lists    int
}

func (e *shown) List(context.Context, containerizer.Filter) ([]containerizer.Status, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lists++
	return append([]containerizer.Status(nil), e.statuses...), nil
}

func (e *shown) Status(_ context.Context, id containerizer.ContainerID) (*containerizer.Status, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, has := e.at[id]
	if !has {
		return nil, containerizer.ErrNotFound
	}
	s := e.statuses[n]
	return &s, nil
}

func (e *shown) add(tb testing.TB, id containerizer.ContainerID, name string) {
	tb.Helper()
	origin, err := (&record{pod: &runtimeapi.RunPodSandboxRequest{Config: &runtimeapi.PodSandboxConfig{Metadata: meta(name)}}}).origin()
	if err != nil {
		tb.Fatal(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.at[id] = len(e.statuses)
	e.statuses = append(e.statuses, containerizer.Status{ID: id, Spec: &containerizer.Spec{Origin: origin}, State: containerizer.StateRunning})
}

func (e *shown) set(id containerizer.ContainerID, s containerizer.State) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.statuses[e.at[id]].State = s
}

func (e *shown) remove(id containerizer.ContainerID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.statuses[e.at[id]] = containerizer.Status{ID: containerizer.NewContainerID(), Spec: &containerizer.Spec{}}
	delete(e.at, id)
}

func meta(name string) *runtimeapi.PodSandboxMetadata {
	return &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "default", Uid: "uid-" + name}
}

func keyOf(name string) string { return podKey(meta(name)) }

func crowd(tb testing.TB, n int) *shown {
	tb.Helper()
	e := &shown{at: map[containerizer.ContainerID]int{}}
	for i := range n {
		e.add(tb, containerizer.NewContainerID(), fmt.Sprint("pod-", i))
	}
	return e
}

func TestIndexChoose(t *testing.T) {
	e := crowd(t, 3)
	x := newIndex(e)
	choose := func(name string) containerizer.ContainerID {
		t.Helper()
		id, err := x.choose(t.Context(), keyOf(name), "")
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	old := choose("pod-1") // from before this process
	if old != e.statuses[1].ID {
		t.Errorf("a retry after a restart got %q, want %q", old, e.statuses[1].ID)
	}
	x.done(keyOf("pod-1"), false)

	first := choose("new")
	if again := choose("new"); again != first {
		t.Errorf("a call beside the first got %q, want %q", again, first)
	}
	x.done(keyOf("new"), true)
	x.done(keyOf("new"), true)
	if again := choose("new"); again != first {
		t.Errorf("a retry of a call that was left got %q before the engine shows it, want %q", again, first)
	}
	e.add(t, first, "new")
	x.done(keyOf("new"), false)
	if again := choose("new"); again != first {
		t.Errorf("a retry got %q, want %q", again, first)
	}
	x.done(keyOf("new"), false)

	e.set(first, containerizer.StateDestroying)
	second := choose("new")
	if second == first {
		t.Error("a request joins a container that is being destroyed")
	}
	x.done(keyOf("new"), false) // it failed: the engine shows nothing
	if third := choose("new"); third == second || third == first {
		t.Error("the id of a launch that failed is used again")
	}
	x.done(keyOf("new"), false)
	e.remove(old)
	if again := choose("pod-1"); again == old {
		t.Error("the id of a container that is gone is used again")
	}
	if e.lists != 1 {
		t.Errorf("%d lists were made, want the first one only", e.lists)
	}
}

// TestIndexForgets checks that what is kept is bounded by what is there, and that a list
// that is older than a call does not undo it.
func TestIndexForgets(t *testing.T) {
	e := crowd(t, 0)
	x := newIndex(e)
	pods := func(n int, f func(string, containerizer.ContainerID)) {
		for i := range n {
			name := fmt.Sprint("p-", i)
			id, err := x.choose(t.Context(), keyOf(name), "")
			if err != nil {
				t.Fatal(err)
			}
			f(name, id)
			x.done(keyOf(name), false)
		}
	}
	pods(100, func(string, containerizer.ContainerID) {})
	pods(1, func(string, containerizer.ContainerID) {
		if _, err := x.all(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if len(x.requests) != 1 {
			t.Errorf("%d requests are remembered, want that in the making", len(x.requests))
		}
	})
	pods(100, func(name string, id containerizer.ContainerID) { e.add(t, id, name) })
	x.mu.Lock()
	x.forget(nil, x.ended-100)
	if len(x.requests) != 100 {
		t.Errorf("%d requests are remembered after an old list, want 100", len(x.requests))
	}
	x.mu.Unlock()
}

func TestIndexFailsWithTheEngine(t *testing.T) {
	want := errors.New("no state")
	x := newIndex(failing{err: want})
	if _, err := x.choose(t.Context(), "key", ""); !errors.Is(err, want) {
		t.Errorf("%v, want %v", err, want)
	}
}

type failing struct {
	containerizer.Query
	err error
}

func (f failing) List(context.Context, containerizer.Filter) ([]containerizer.Status, error) {
	return nil, f.err
}

// TestIndexConcurrently has many callers of one key agree while others come and go.
func TestIndexConcurrently(t *testing.T) {
	e := crowd(t, 10)
	x := newIndex(e)
	first, err := x.choose(t.Context(), keyOf("one"), "")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for range 200 {
				for _, name := range []string{"one", fmt.Sprint("pod-", n), fmt.Sprint("other-", n)} {
					id, err := x.choose(t.Context(), keyOf(name), "")
					if err != nil || name == "one" && id != first {
						t.Errorf("%s: %q, %v, want %q", name, id, err, first)
						return
					}
					x.done(keyOf(name), false)
				}
				if _, err := x.all(t.Context(), ""); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	x.done(keyOf("one"), false)
}

// BenchmarkIndexChoose finds the container of a retry among 5000.
func BenchmarkIndexChoose(b *testing.B) {
	x := newIndex(crowd(b, 5000))
	if err := x.learn(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		key := keyOf("pod-4999")
		if _, err := x.choose(b.Context(), key, ""); err != nil {
			b.Fatal(err)
		}
		x.done(key, false)
	}
}
