package keeper_test

import (
	"context"
	"sync"
	"testing"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/keeper"
)

// engine has containers that end when the test says so.
type engine struct {
	containerizer.Engine

	events chan containerizer.Event
	waited chan containerizer.ContainerID // whom somebody begins to wait for

	mu    sync.Mutex
	alive map[containerizer.ContainerID]chan struct{} // closed at its end
}

func (e *engine) Events(context.Context, uint64) (<-chan containerizer.Event, error) {
	return e.events, nil
}

func (e *engine) List(context.Context, containerizer.Filter) ([]containerizer.Status, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []containerizer.Status
	for id := range e.alive {
		all = append(all, containerizer.Status{ID: id, State: containerizer.StateRunning})
	}
	return append(all, containerizer.Status{ID: "dead", State: containerizer.StateExited}), nil
}

func (e *engine) Wait(ctx context.Context, id containerizer.ContainerID) (*containerizer.Termination, error) {
	e.mu.Lock()
	ended := e.alive[id]
	e.mu.Unlock()
	e.waited <- id
	select {
	case <-ended:
		return &containerizer.Termination{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (e *engine) Status(_ context.Context, id containerizer.ContainerID) (*containerizer.Status, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.alive[id] == nil {
		return nil, containerizer.ErrNotFound
	}
	return &containerizer.Status{ID: id, State: containerizer.StateRunning}, nil
}

// start makes id live; the function that is returned ends it, and makes it live again.
func (e *engine) start(id containerizer.ContainerID) (restart func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ended := make(chan struct{})
	e.alive[id] = ended
	return func() {
		e.start(id)
		close(ended)
	}
}

// TestKeeper waits for what lives, for what begins to, and once for each.
func TestKeeper(t *testing.T) {
	e := &engine{
		events: make(chan containerizer.Event), waited: make(chan containerizer.ContainerID),
		alive: map[containerizer.ContainerID]chan struct{}{},
	}
	restart := e.start("old")
	ctx, cancel := context.WithCancel(t.Context())
	heard := 0
	k := &keeper.Keeper{Engine: e, OnEvent: func(containerizer.Event) { heard++ }}
	var wg sync.WaitGroup
	wg.Go(func() { k.Run(ctx) })
	want := func(id containerizer.ContainerID) {
		t.Helper()
		if got := <-e.waited; got != id {
			t.Fatalf("it waits for %q, want %q", got, id)
		}
	}
	want("old")
	e.start("new")
	for _, typ := range []containerizer.EventType{containerizer.EventCreated, containerizer.EventStarted} {
		e.events <- containerizer.Event{ID: "new", Type: typ}
	}
	want("new") // once
	restart()
	want("old") // it was started again before anybody noticed its end
	cancel()
	close(e.events)
	wg.Wait()
	if heard != 2 {
		t.Errorf("%d events were heard, want 2", heard)
	}
}
