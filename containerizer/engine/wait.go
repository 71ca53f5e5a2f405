package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

const (
	// waitPoll is how often Wait looks at a container that another process is
	// bringing up or down.
	waitPoll = 25 * time.Millisecond
	// watchAfter is how long a container must live before isolators are asked to
	// watch its limits: most that are waited for from the start end sooner.
	watchAfter = 200 * time.Millisecond
)

// Wait implements [containerizer.Lifecycle]. Who waits also reaps: once the end is
// recorded Wait returns, and the release goes on as an operation of the engine
// (see Close). While anybody waits, isolators watch the container's limits.
func (e *Engine) Wait(ctx context.Context, id containerizer.ContainerID) (*containerizer.Termination, error) {
	if err := e.ready(ctx); err != nil {
		return nil, err
	}
	for failures := 0; ; {
		t, err := e.waitOnce(ctx, id)
		switch {
		case t != nil || errors.Is(err, containerizer.ErrNotFound):
			return t, err
		case ctx.Err() != nil:
			return nil, fmt.Errorf("wait for container %q: %w", id, context.Cause(ctx))
		case err != nil:
			if failures++; failures == 3 { // a container may go while we look at it, but not twice
				return nil, err
			}
		}
		if err := e.pause(ctx, id); err != nil {
			return nil, fmt.Errorf("wait for container %q: %w", id, err)
		}
	}
}

// waitOnce returns how id ended, waiting for that while it is alive; nil when it
// is between two states.
func (e *Engine) waitOnce(ctx context.Context, id containerizer.ContainerID) (*containerizer.Termination, error) {
	l, err := e.load(id)
	if errors.Is(err, containerizer.ErrNotFound) {
		if t := e.journal.termination(id); t != nil {
			return t, nil
		}
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("wait: %w", err)
	case l.st.State.Alive():
		return e.waitAlive(ctx, l)
	case l.st.State == containerizer.StateExited,
		l.st.State == containerizer.StateDestroying && l.st.Termination != nil:
		return l.st.Termination, nil
	}
	return nil, nil
}

// pause waits until the operation of this engine on id settles or ends, or a
// moment when there is none.
func (e *Engine) pause(ctx context.Context, id containerizer.ContainerID) error {
	e.mu.Lock()
	op := e.ops[id]
	e.mu.Unlock()
	if op != nil {
		select {
		case <-op.settled:
		case <-op.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if op.termination != nil { // its record is on disk, or just gone
			return nil
		}
	}
	select {
	case <-time.After(waitPoll):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// waitAlive waits for the end of l's process, reaps it, and returns how it ended;
// nil when another operation came first.
func (e *Engine) waitAlive(ctx context.Context, l *loaded) (*containerizer.Termination, error) {
	var t *containerizer.Termination
	if l.st.Boot != e.bootID { // nobody is left to wait for
		t = e.ended(l)
	}
	if t == nil {
		stop := e.watch(ctx, l)
		var err error
		t, err = e.launcher.Wait(ctx, e.container(l))
		stop()
		if err != nil && ctx.Err() == nil {
			t = e.ended(l) // the launcher has lost sight of it
		}
		if t == nil {
			return nil, err
		}
	}
	op, _, err := e.begin(context.WithoutCancel(ctx), l.id, opReap, "", func(ctx context.Context, op *operation) error {
		return e.reapOp(ctx, op, t)
	})
	if err != nil {
		return nil, err
	}
	select {
	case <-op.settled:
		return op.termination, nil
	case <-op.done:
		return op.termination, op.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// watch lets isolators watch l's limits until the returned function is called. A
// container that runs into one is killed, with the limit on record.
func (e *Engine) watch(ctx context.Context, l *loaded) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-time.After(watchAfter):
		case <-ctx.Done():
			return
		}
		for _, iso := range e.isolators {
			if w, is := iso.(containerizer.Watcher); is {
				wg.Go(func() { e.watchOne(ctx, l, iso.Name(), w) })
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

func (e *Engine) watchOne(ctx context.Context, l *loaded, name string, w containerizer.Watcher) {
	c := e.container(l)
	limit, err := w.Watch(ctx, forIsolator(c, nil, name))
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		e.log.Warn("an isolator stopped watching", fieldID(l.id), fieldIsolator(name), fieldError(err))
		return
	case limit == nil:
		return
	}
	if limit.Isolator == "" {
		limit.Isolator = name
	}
	if err := writeJSON(filepath.Join(l.dir, limitationFile), limit); err != nil {
		e.log.Warn("the limit that a container hit is not recorded", fieldID(l.id), fieldError(err))
	}
	if err := e.signalAll(ctx, l, int(unix.SIGKILL)); err != nil {
		e.log.Error("a container that hit its limit cannot be killed", fieldID(l.id), fieldError(err))
	}
}
