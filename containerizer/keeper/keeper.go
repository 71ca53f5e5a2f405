// Package keeper waits for all containers of an engine, so that whatever ends is
// reaped at once, its limits are watched, and its monitor finds somebody there. It is
// what a process that lives long does beside answering.
package keeper

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
)

// retryPause is how long a keeper waits before it looks again after a failure.
const retryPause = time.Second

// Keeper keeps the containers of one engine.
type Keeper struct {
	Engine containerizer.Engine
	// Log is told what cannot be waited for; nil is nowhere.
	Log *log.Logger
	// OnEvent, when set, hears of every event. It must return quickly.
	OnEvent func(containerizer.Event)

	mu   sync.Mutex
	kept map[containerizer.ContainerID]bool // waited for now
	wg   sync.WaitGroup
}

// Run keeps containers until ctx ends, and leaves them alone then.
func (k *Keeper) Run(ctx context.Context) {
	k.kept = map[containerizer.ContainerID]bool{}
	defer k.wg.Wait()
	for {
		err := k.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		k.Log.Warn("containers are not watched for a moment", log.Error(err))
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return
		}
	}
}

// follow waits for what lives, and for what begins to, until the events end, and says
// why they did.
func (k *Keeper) follow(ctx context.Context) error {
	events, err := k.Engine.Events(ctx, 0)
	if err != nil {
		return err
	}
	all, err := k.Engine.List(ctx, containerizer.Filter{})
	if err != nil {
		return err
	}
	for i := range all {
		if all[i].State.Alive() {
			k.keep(ctx, all[i].ID)
		}
	}
	for ev := range events {
		if k.OnEvent != nil {
			k.OnEvent(ev)
		}
		switch ev.Type {
		case containerizer.EventCreated, containerizer.EventStarted:
			k.keep(ctx, ev.ID)
		default:
		}
	}
	return fmt.Errorf("the events have ended: %w", containerizer.ErrUnavailable)
}

// keep waits for id in the background, unless that is done already.
func (k *Keeper) keep(ctx context.Context, id containerizer.ContainerID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.kept[id] {
		return
	}
	k.kept[id] = true
	k.wg.Go(func() {
		for k.wait(ctx, id) {
		}
	})
}

// wait waits once, and says whether to go on: the container may have been started
// again before it was forgotten here.
func (k *Keeper) wait(ctx context.Context, id containerizer.ContainerID) (again bool) {
	_, err := k.Engine.Wait(ctx, id)
	if err != nil && ctx.Err() == nil && !errors.Is(err, containerizer.ErrNotFound) {
		k.Log.Warn("a container cannot be waited for", log.Stringer("container", id), log.Error(err))
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
		}
	}
	k.mu.Lock()
	delete(k.kept, id)
	k.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	s, err := k.Engine.Status(ctx, id)
	if err != nil || !s.State.Alive() {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.kept[id] {
		return false
	}
	k.kept[id] = true
	return true
}
