package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const listName = "files.mtree"

// ListPath is the list of a layer's files.
func (s *Store) ListPath(name string) string { return s.path("layers", name, listName) }

// AwaitsList says whether the list of a layer is still to be made.
func (s *Store) AwaitsList(name string) bool {
	return exists(s.path("pending", "files-"+name)) || exists(s.path("pending", "layer-"+name))
}

// MakeLists makes the lists that durable layers lack; list writes one. It returns
// at once when another process does it.
func (s *Store) MakeLists(ctx context.Context, list func(ctx context.Context, w io.Writer, dir string) error) error {
	if !exists(s.path("locks")) {
		return nil
	}
	l, err := try(s.path("locks", "files"), syscall.LOCK_EX)
	if errors.Is(err, errBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	defer l.Release()
	pending, err := s.names("pending")
	errs := []error{err}
	for _, p := range pending {
		name, ok := strings.CutPrefix(p, "files-")
		if !ok {
			continue
		}
		if ctx.Err() != nil {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		if err := s.MakeList(ctx, name, list); err != nil {
			errs = append(errs, fmt.Errorf("list the files of layer %q: %w", name, err))
			continue
		}
		errs = append(errs, remove(s.path("pending", p)))
		// Another layer may have taken its place, whose marker this was.
		if s.HasLayer(name) && !exists(s.ListPath(name)) {
			errs = append(errs, s.markPending(p))
		}
	}
	return errors.Join(errs...)
}

// MakeList makes the list of one layer. A layer that goes meanwhile needs none.
func (s *Store) MakeList(ctx context.Context, name string, list func(ctx context.Context, w io.Writer, dir string) error) error {
	dir, err := os.Open(s.path("layers", name))
	if notExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }() // was only read
	tmp, l, err := s.scratch()
	if err != nil {
		return err
	}
	f := l.f
	err = list(ctx, f, s.LayerPath(name))
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		// Before it is closed, and with that unlocked: a sweep would take it away. Into this very directory: another of the same name may be in its place by now.
		err = unix.Renameat(unix.AT_FDCWD, tmp, int(dir.Fd()), listName)
	}
	cerr := f.Close()
	if err == nil {
		return cerr
	}
	err = errors.Join(err, os.Remove(tmp))
	if !same(dir, s.path("layers", name)) {
		return nil
	}
	return class(err)
}
