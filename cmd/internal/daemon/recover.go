package daemon

import (
	"context"
	"slices"
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
		if busy := d.recoverOnce(ctx); !busy {
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

// recoverOnce says whether it left containers alone, because somebody works on them.
func (d *Daemon) recoverOnce(ctx context.Context) (busy bool) {
	report, err := d.engine.Recover(ctx, true)
	if err != nil && ctx.Err() == nil {
		d.o.Log.Error("recovery is incomplete", log.Error(err))
	}
	if report == nil {
		return false
	}
	for _, line := range report.Repaired {
		d.o.Log.Info("repaired", log.String("what", line))
	}
	for _, line := range report.Owed {
		d.o.Log.Warn("owed", log.String("what", line))
	}
	return len(report.Busy) > 0
}

// interrupted says whether a container is in the middle of a change that nobody makes,
// such as of a command that was killed.
func (d *Daemon) interrupted(ctx context.Context) bool {
	all, err := d.engine.List(ctx, containerizer.Filter{})
	if err != nil {
		return false
	}
	return slices.ContainsFunc(all, func(s containerizer.Status) bool { return s.Interrupted })
}
