package daemon

import (
	"context"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
)

const (
	// recoverTries bounds how often is looked at a container that a dead process still
	// has a lock on: a child that it was about to start has it for a moment.
	recoverTries = 10
	recoverPause = 100 * time.Millisecond
)

// recover puts right what earlier daemons and commands left. It says whether it came
// to an end; what it could not do is in the log, and is tried again.
func (d *Daemon) recover(ctx context.Context) bool {
	began := time.Now()
	for range recoverTries {
		d.recoverOnce(ctx)
		if !d.has(ctx, unsettled) {
			break
		}
		select {
		case <-time.After(recoverPause):
		case <-ctx.Done():
			return false
		}
	}
	d.o.Log.Info("ready", log.Stringer("recovery", time.Since(began).Round(time.Millisecond)))
	return ctx.Err() == nil
}

func (d *Daemon) recoverOnce(ctx context.Context) {
	report, err := d.engine.Recover(ctx, true)
	if err != nil && ctx.Err() == nil {
		d.o.Log.Error("recovery is incomplete", log.Error(err))
	}
	if report == nil {
		return
	}
	for _, line := range report.Repaired {
		d.o.Log.Info("repaired", log.String("what", line))
	}
	for _, line := range report.Owed {
		d.o.Log.Warn("owed", log.String("what", line))
	}
}

// interrupted says that a container is in the middle of a change that nobody makes, such
// as of a command that was killed.
func interrupted(s *containerizer.Status) bool { return s.Interrupted }

// unsettled says the same also of one whose lock is held: by a child of a dead process, or
// by a command that is at work. That is waited for no longer than the former could take.
func unsettled(s *containerizer.Status) bool {
	return s.Interrupted || s.State == containerizer.StatePreparing || s.State == containerizer.StateDestroying
}

// has says whether there is such a container.
func (d *Daemon) has(ctx context.Context, such func(*containerizer.Status) bool) bool {
	all, err := d.engine.List(ctx, containerizer.Filter{})
	if err != nil {
		return false
	}
	for i := range all {
		if such(&all[i]) {
			return true
		}
	}
	return false
}
