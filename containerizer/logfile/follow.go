package logfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// follow emits what is written from now on. opened is told of each further file.
func (r *reader) follow(ctx context.Context, path string, w *watcher, opened func(*os.File)) error {
	var deadline <-chan time.Time
	if !r.o.Until.IsZero() {
		t := time.NewTimer(time.Until(r.o.Until))
		defer t.Stop()
		deadline = t.C
	}
	for {
		ended := false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline:
			return nil
		case <-r.o.Ended:
			ended = true
		case <-w.changed:
		}
		if err := r.advance(ctx, path, opened); err != nil {
			return err
		}
		if ended {
			return r.finish()
		}
	}
}

// advance reads on, through files that were rotated in the meantime.
func (r *reader) advance(ctx context.Context, path string, opened func(*os.File)) error {
	if err := r.drain(ctx); err != nil {
		return err
	}
	if rotated, err := r.rotated(path); err != nil || !rotated {
		return err
	}
	// Nothing is written to the old file any more: what it has got since is the last.
	if err := r.drain(ctx); err != nil {
		return err
	}
	list, err := files(path)
	if err != nil {
		return err
	}
	next := 0
	for i, f := range list {
		opened(f)
		if r.file != nil && sameFile(f, r.file) {
			next = i + 1
		}
	}
	for _, f := range list[next:] {
		r.open(f)
		if err := r.drain(ctx); err != nil {
			return err
		}
	}
	return nil
}

// rotated says whether path is another file than the one being read, or the first
// one. Between two steps of a rotation there is none at all.
func (r *reader) rotated(path string) (bool, error) {
	now, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || r.file == nil {
		return err == nil, err
	}
	old, err := r.file.Stat()
	return err == nil && !os.SameFile(now, old), err
}

// watcher tells that a log file or its directory changed.
type watcher struct {
	file    *os.File
	changed chan struct{}
	stopped chan struct{}
}

// newWatcher watches the directory of path: writes to the files in it are
// reported there as well (inotify(7)).
func newWatcher(path string) (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch %q: inotify: %w", path, err)
	}
	w := &watcher{
		file:    os.NewFile(uintptr(fd), "inotify"),
		changed: make(chan struct{}, 1),
		stopped: make(chan struct{}),
	}
	const mask = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_DELETE | unix.IN_ONLYDIR
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), mask); err != nil {
		_ = w.file.Close()
		return nil, fmt.Errorf("watch %q: %w", filepath.Dir(path), err)
	}
	go w.run()
	return w, nil
}

// run turns events into a signal; what they say is found by looking.
func (w *watcher) run() {
	defer close(w.stopped)
	buf := make([]byte, 4096)
	for {
		if _, err := w.file.Read(buf); err != nil {
			return // closed
		}
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
}

func (w *watcher) close() {
	_ = w.file.Close()
	<-w.stopped
}
