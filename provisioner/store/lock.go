package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Lock is a held file lock. It goes with the process at the latest.
type Lock struct{ f *os.File }

// Release gives the lock up.
func (l *Lock) Release() { _ = l.f.Close() } // nothing was written

// errBusy says that somebody else holds the lock.
var errBusy = errors.New("locked by another process")

// try takes a lock without waiting. A file that was removed while we opened it
// is not the lock any more.
func try(path string, how int) (*Lock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, class(err)
		}
		for {
			err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
			if !errors.Is(err, syscall.EINTR) {
				break
			}
		}
		if errors.Is(err, syscall.EWOULDBLOCK) {
			_ = f.Close()
			return nil, errBusy
		}
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("lock %q: %w", path, err)
		}
		if same(f, path) {
			return &Lock{f}, nil
		}
		_ = f.Close()
	}
}

func same(f *os.File, path string) bool {
	a, erra := f.Stat()
	b, errb := os.Stat(path)
	return erra == nil && errb == nil && os.SameFile(a, b)
}

// wait takes a lock, and asks again in growing intervals while others hold it:
// a blocking flock(2) could not be given up.
func wait(ctx context.Context, path string, how int) (*Lock, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		l, err := try(path, how)
		if !errors.Is(err, errBusy) {
			return l, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("wait for the lock %q: %w", path, context.Cause(ctx))
		}
	}
}

// Use takes the gc lock shared: nothing is removed while it is held.
func (s *Store) Use(ctx context.Context) (*Lock, error) {
	return wait(ctx, s.path("locks", "gc"), syscall.LOCK_SH)
}

// Collect takes the gc lock alone.
func (s *Store) Collect(ctx context.Context) (*Lock, error) {
	return wait(ctx, s.path("locks", "gc"), syscall.LOCK_EX)
}

// LayerLock is held by whoever makes a layer.
type LayerLock struct {
	l    *Lock
	path string
}

// LockLayer waits for the lock of one layer.
func (s *Store) LockLayer(ctx context.Context, name string) (*LayerLock, error) {
	path := s.path("ingest", name)
	l, err := wait(ctx, path, syscall.LOCK_EX)
	if err != nil {
		return nil, err
	}
	return &LayerLock{l, path}, nil
}

// Release removes the lock's file while it is held, and lets go.
func (l *LayerLock) Release() {
	_ = os.Remove(l.path) // a file that stays is removed by the sweep
	l.l.Release()
}

// Lease keeps alive what a running pull needs, and owns its files in stage.
type Lease struct {
	s    *Store
	id   string
	lock *Lock
}

// leaseRecord is the content of a lease.
type leaseRecord struct {
	Layers []string `json:"layers"` // names of layer directories
	Blobs  []string `json:"blobs"`
}

// NewLease returns a lease that holds nothing yet.
func (s *Store) NewLease(ctx context.Context) (*Lease, error) {
	id := random()
	l, err := wait(ctx, s.path("leases", id+".json"), syscall.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("make a lease: %w", err)
	}
	return &Lease{s: s, id: id, lock: l}, nil
}

// Release gives up what the lease holds, its files in stage included. It is safe
// to be called twice.
func (l *Lease) Release() error {
	if l.lock == nil {
		return nil
	}
	err := l.s.dropStage(l.id)
	err = errors.Join(err, os.Remove(l.s.path("leases", l.id+".json")))
	l.lock.Release()
	l.lock = nil
	return err
}

// dropStage moves the files of lease id out of stage.
func (s *Store) dropStage(id string) error {
	found, err := filepath.Glob(s.path("stage", id+"-*"))
	for _, path := range found {
		if rerr := os.Remove(path); rerr == nil || notExist(rerr) { // a file: its space comes back at once
			continue
		}
		err = errors.Join(err, s.Trash(path))
	}
	return err
}

// live says whether the lease at path is still held; a dead one is removed.
func (s *Store) live(id string) bool {
	path := s.path("leases", id+".json")
	if !exists(path) {
		return false
	}
	l, err := try(path, syscall.LOCK_SH)
	if err != nil {
		return errors.Is(err, errBusy)
	}
	defer l.Release()
	_ = os.Remove(path)
	return false
}

func notExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
