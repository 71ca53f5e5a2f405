package executor

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
)

// watch looks after t while it runs: its checks, its time, and its end when that is asked
// for. It returns when ctx ends.
func (t *task) watch(ctx context.Context, spec *containerizer.Spec, status *containerizer.Status) {
	var parts []func()
	p := newProber(t.x.Engine, status, spec)
	if h := t.info.GetHealthCheck(); h != nil {
		parts = append(parts, func() { t.watchHealth(ctx, p, h) })
	}
	if c := t.info.GetCheck(); c != nil {
		parts = append(parts, func() { t.watchCheck(ctx, p, c) })
	}
	if m := t.info.GetMaxCompletionTime(); m != nil {
		parts = append(parts, func() { t.watchTime(ctx, time.Duration(m.GetNanoseconds())) })
	}
	parts = append(parts, func() { t.killer(ctx) })
	done := make(chan struct{})
	for _, f := range parts {
		go func() {
			f()
			done <- struct{}{}
		}()
	}
	for range parts {
		<-done
	}
}

// watchTime ends t when it takes longer than it may: at once.
func (t *task) watchTime(ctx context.Context, most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-timer.C:
		t.x.mu.Lock()
		t.kill(0, causeTime)
		t.x.mu.Unlock()
	case <-ctx.Done():
	}
}

// killer ends t when it is asked to, first with SIGTERM.
func (t *task) killer(ctx context.Context) {
	const sigterm = 15
	select {
	case <-ctx.Done():
		return
	case <-t.asked:
	}
	if t.left() > 0 {
		t.x.persist(ctx, func() error { return t.x.Engine.Kill(ctx, t.id, sigterm, false) })
	}
	for left := t.left(); left > 0; left = t.left() {
		timer := time.NewTimer(left)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-t.sooner:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
	none := time.Duration(0)
	t.x.persist(ctx, func() error { return t.x.Engine.Stop(ctx, t.id, &none) })
}

func (t *task) left() time.Duration {
	t.x.mu.Lock()
	defer t.x.mu.Unlock()
	return time.Until(t.deadline)
}

// persist does f until it succeeds, is of no use, or ctx ends.
func (x *Executor) persist(ctx context.Context, f func() error) {
	for {
		err := f()
		hopeless := []error{containerizer.ErrNotFound, containerizer.ErrFailedPrecondition, containerizer.ErrInvalid}
		if err == nil || ctx.Err() != nil || slices.ContainsFunc(hopeless, func(class error) bool { return errors.Is(err, class) }) {
			return
		}
		x.Log.Warn("the engine does not do what it is asked to; it is asked again", log.Error(err))
		select {
		case <-time.After(enginePause):
		case <-ctx.Done():
			return
		}
	}
}

// enginePause is between two questions to an engine that does not answer, because its
// daemon is starting anew for instance.
const enginePause = 500 * time.Millisecond

// waitFor waits for the end of a container. A daemon that is started anew does not end it.
func (x *Executor) waitFor(ctx context.Context, id containerizer.ContainerID) (end *containerizer.Termination, err error) {
	for {
		end, err = x.Engine.Wait(ctx, id)
		if err == nil || ctx.Err() != nil || errors.Is(err, containerizer.ErrNotFound) {
			return end, err
		}
		x.Log.Warn("the end of a container cannot be waited for at the moment", log.String("container_id", id.String()), log.Error(err))
		select {
		case <-time.After(enginePause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
