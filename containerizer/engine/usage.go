package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// defaultUsageShare is how old a sample may be that another reader gets.
const defaultUsageShare = 200 * time.Millisecond

// samples are the last measurements, by container.
type samples struct {
	mu sync.Mutex
	m  map[containerizer.ContainerID]*sample
}

// sample is one measurement, done or in progress.
type sample struct {
	began time.Time
	done  chan struct{}
	// Set before done is closed.
	usage *containerizer.Usage
	err   error
}

// maxSamples bounds what is kept of containers that nobody asks for any more.
const maxSamples = 8192

// Usage implements [containerizer.Query]. The measurement belongs to nobody: one that
// hangs holds up those who wait for this container, as long as they want to wait, and
// no second one is begun beside it.
func (e *Engine) Usage(ctx context.Context, id containerizer.ContainerID) (*containerizer.Usage, error) {
	if err := e.ready(ctx); err != nil {
		return nil, err
	}
	s, mine := e.samples.join(id, e.opts.UsageShare)
	if mine {
		go func() { // it only reads, and nobody has to wait for it
			s.usage, s.err = e.measure(context.WithoutCancel(ctx), id)
			close(s.done)
		}()
	}
	select {
	case <-s.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("usage of container %q is being measured since %s: %w", id, time.Since(s.began).Round(time.Millisecond), context.Cause(ctx))
	}
	if s.err != nil {
		return nil, s.err
	}
	u := *s.usage // what it points to is nobody's to change
	return &u, nil
}

// join returns the sample to wait for; mine says that the caller has to take it.
func (s *samples) join(id containerizer.ContainerID, share time.Duration) (found *sample, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if last := s.m[id]; last != nil {
		select {
		case <-last.done:
			if last.err == nil && now.Sub(last.began) < share {
				return last, false
			}
		default:
			return last, false
		}
	}
	if s.m == nil || len(s.m) >= maxSamples {
		s.m = map[containerizer.ContainerID]*sample{} // those in progress end by themselves
	}
	found = &sample{began: now, done: make(chan struct{})}
	s.m[id] = found
	return found, true
}

// drop forgets a container that is gone.
func (s *samples) drop(id containerizer.ContainerID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, id)
}

// measure takes a sample. What one isolator cannot measure is missing; only when
// nobody can that is an error.
func (e *Engine) measure(ctx context.Context, id containerizer.ContainerID) (*containerizer.Usage, error) {
	l, err := e.load(id)
	if err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	u := &containerizer.Usage{At: time.Now().UTC()}
	c := e.container(l)
	state := e.view(l).State
	var errs []error
	measured := 0
	for _, iso := range e.isolators {
		r, is := iso.(containerizer.UsageReporter)
		if !is || !state.Alive() {
			continue
		}
		if err := r.Usage(ctx, forIsolator(c, nil, iso.Name()), u); err != nil {
			errs = append(errs, fmt.Errorf("usage of container %q: isolator %q: %w", id, iso.Name(), err))
			continue
		}
		measured++
	}
	if r, is := e.provisioner.(containerizer.DiskReporter); is {
		if u.Disk, err = r.DiskUsage(ctx, c); err != nil {
			errs = append(errs, fmt.Errorf("usage of container %q: what it wrote: %w", id, err))
		}
	}
	switch {
	case measured > 0 || u.Disk != nil:
	case state.Alive() && len(errs) == 0: // nobody measures
		return u, nil
	case len(errs) == 0:
		return nil, fmt.Errorf("usage: container %q is %s: %w", id, state, containerizer.ErrFailedPrecondition)
	default:
		return nil, errors.Join(errs...)
	}
	for _, err := range errs {
		e.log.Warn("a part of the usage is missing", fieldID(id), fieldError(err))
	}
	return u, nil
}
