package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Tidy deletes from the trash until budget files and directories are gone, and
// counts what then waits for a Sweep. It does nothing while another process sweeps,
// and what another process is at does not wait.
func (s *Store) Tidy(budget int) (pending, trash int) {
	pending = s.waiting()
	names, err := s.names("trash")
	if err != nil || len(names) == 0 {
		return pending, 0
	}
	l, err := try(s.path("locks", "sweep"), syscall.LOCK_EX)
	if err != nil {
		return pending, 0 // somebody is at it
	}
	defer l.Release()
	for i, name := range names {
		if err := removeSome(s.path("trash", name), &budget); err != nil {
			return pending, len(names) - i
		}
	}
	return pending, 0
}

// waiting counts what a Sweep would make durable, or list.
func (s *Store) waiting() (n int) {
	names, err := s.names("pending")
	if err != nil || len(names) == 0 {
		return 0 // what cannot be read is found by the Sweep
	}
	l, err := try(s.path("locks", "files"), syscall.LOCK_EX)
	if err != nil {
		names = slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(name, "files-") })
	} else {
		l.Release()
	}
	return len(names)
}

// errBudget ends a removal that would take too long.
var errBudget = errors.New("more than was to be deleted at once")

// removeSome removes a tree unless that takes more than budget removals.
func removeSome(path string, budget *int) error {
	if *budget <= 0 {
		return errBudget
	}
	*budget--
	err := os.Remove(path)
	if err == nil || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EEXIST) {
		return err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := removeSome(filepath.Join(path, e.Name()), budget); err != nil {
			return err
		}
	}
	return os.Remove(path)
}
