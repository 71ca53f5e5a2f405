package oomscore

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/isolators/security/internal/hostcap"
)

var _ containerizer.Isolator = (*Isolator)(nil)

// The bounds of the kernel (linux/oom.h).
const (
	lowest  = -1000
	highest = 1000
)

// Options configure an [Isolator].
type Options struct {
	// Clamp raises a value that berth may not set to the lowest that it may, with a
	// warning, instead of refusing it.
	Clamp bool
}

// Isolator is "linux/oom_score".
type Isolator struct {
	log   *log.Logger
	clamp bool
}

// New returns the isolator.
func New(log *log.Logger, o Options) *Isolator {
	return &Isolator{log: log, clamp: o.Clamp}
}

// Name implements [containerizer.Isolator].
func (*Isolator) Name() string { return "linux/oom_score" }

// Prepare checks and hands on the value. Errors: ErrInvalid out of bounds,
// ErrPermission for one that berth may not set.
func (i *Isolator) Prepare(_ context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	asked := c.Spec.Process.OOMScoreAdj
	if asked == nil {
		return nil, nil
	}
	value := *asked
	if value < lowest || value > highest {
		return nil, fmt.Errorf("OOM score adjustment %d is not between %d and %d: %w", value, lowest, highest, containerizer.ErrInvalid)
	}
	floor, err := lowestAllowed()
	if err != nil {
		return nil, err
	}
	if value < floor {
		if !i.clamp {
			return nil, fmt.Errorf("OOM score adjustment %d is below berth's own of %d, and berth lacks CAP_SYS_RESOURCE to lower it: %w",
				value, floor, containerizer.ErrPermission)
		}
		i.log.Warn("oom score adjustment raised to the lowest possible",
			log.Stringer("container_id", c.ID), log.Int("asked", value), log.Int("used", floor))
		value = floor
	}
	return &containerizer.LaunchInfo{OOMScoreAdj: &value}, nil
}

// Cleanup implements [containerizer.Isolator]; there is nothing to release.
func (*Isolator) Cleanup(context.Context, *containerizer.Container) error { return nil }

// lowestAllowed returns the lowest value that berth may give a process. Without
// CAP_SYS_RESOURCE that is its own: the kernel may allow less (what a privileged
// process last set, fs/proc/base.c), but does not tell.
func lowestAllowed() (int, error) {
	own, err := hostcap.Permitted()
	if err != nil || hostcap.Has(own, unix.CAP_SYS_RESOURCE) {
		return lowest, err
	}
	data, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return 0, fmt.Errorf("read berth's own OOM score adjustment: %w", err)
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(data)))
	if err != nil {
		return 0, fmt.Errorf("read berth's own OOM score adjustment: %w", err)
	}
	return n, nil
}
