package store

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// idleBatch is how much is deleted before somebody else can come first.
	idleBatch = 2000
	// idlePause is how long a look at others is good for.
	idlePause = 50 * time.Millisecond
	// idleMost is how long others come first in all: a save whose reader stands still
	// must not keep the trash for ever.
	idleMost = 10 * time.Minute
	// idleRoom is the part of the disk, 1/idleRoom, that has to be free for the trash
	// to wait.
	idleRoom = 20
)

// ErrBusy says that the trash is left to later because others make layers.
var ErrBusy = errors.New("images are being made: what was removed is deleted later")

// SweepIdly is Sweep that deletes nothing while anybody else makes layers, as long as
// there is room on the disk: deleting and making files wait for each other in the
// journal of a file system, whatever priority the one has who deletes. It waits for them.
func (s *Store) SweepIdly(ctx context.Context) error {
	left := idleMost
	return s.sweepPolitely(ctx, func() error { return s.giveWay(ctx, &left) })
}

// SweepUnlessBusy is SweepIdly that returns ErrBusy where it would have to wait.
func (s *Store) SweepUnlessBusy(ctx context.Context) error {
	return s.sweepPolitely(ctx, func() error {
		if s.anyLease() && s.roomy() {
			return ErrBusy
		}
		return nil
	})
}

// sweepPolitely asks before each batch whether it may delete.
func (s *Store) sweepPolitely(ctx context.Context, ask func() error) error {
	return s.sweep(ctx, func(path string) error {
		for {
			if err := ask(); err != nil {
				return err
			}
			budget := idleBatch
			err := removeSome(path, &budget)
			if err == nil {
				return nil
			}
			if !errors.Is(err, errBudget) {
				return os.RemoveAll(path) // knows what to do with paths that are too long
			}
		}
	})
}

// giveWay waits while a lease is held, for no longer than what is left.
func (s *Store) giveWay(ctx context.Context, left *time.Duration) error {
	for *left > 0 && s.anyLease() && s.roomy() {
		select {
		case <-time.After(idlePause):
			*left -= idlePause
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// anyLease says whether somebody holds a lease.
func (s *Store) anyLease() bool {
	names, err := s.names("leases")
	return err == nil && slices.ContainsFunc(names, func(name string) bool { return !s.dead(strings.TrimSuffix(name, ".json")) })
}

// roomy says whether the trash is not needed at once.
func (s *Store) roomy() bool {
	var fs unix.Statfs_t
	return unix.Statfs(s.root, &fs) == nil && hasRoom(&fs)
}

func hasRoom(fs *unix.Statfs_t) bool {
	return fs.Bavail > fs.Blocks/idleRoom && (fs.Files == 0 || fs.Ffree > fs.Files/idleRoom)
}
