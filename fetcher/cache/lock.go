package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// errBusy says that somebody else holds the lock.
var errBusy = errors.New("locked by another process")

// flock locks without waiting.
func flock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return errBusy
		case err != nil:
			return fmt.Errorf("lock %q: %w", f.Name(), err)
		default:
			return nil
		}
	}
}

// try takes a lock without waiting; closing the file releases it. A file that was
// removed while we opened it is not the lock any more.
func try(path string, how int) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, class(err)
		}
		if err := flock(f, how); err != nil {
			_ = f.Close() // nothing was written
			return nil, err
		}
		a, erra := f.Stat()
		b, errb := os.Stat(path)
		if erra == nil && errb == nil && os.SameFile(a, b) {
			return f, nil
		}
		_ = f.Close() // nothing was written
	}
}

// wait takes a lock, and asks again in growing intervals while others hold it: a
// blocking flock(2) could not be given up.
func wait(ctx context.Context, path string, how int) (*os.File, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		f, err := try(path, how)
		if !errors.Is(err, errBusy) {
			return f, err
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
