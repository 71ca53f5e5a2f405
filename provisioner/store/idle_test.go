package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The trash is left alone while a pull is under way, and goes afterwards.
func TestSweepIdlyGivesWay(t *testing.T) {
	s := New(filepath.Join(t.TempDir(), "store"))
	if err := s.Init(); err != nil {
		t.Fatal(err)
	}
	if !s.roomy() {
		t.Skip("this disk is nearly full: the trash is not to wait")
	}
	const files = 3 * idleBatch
	dir := s.path("trash", "x")
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for n := range files {
		if err := os.WriteFile(filepath.Join(dir, "sub", fmt.Sprint(n)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lease, err := s.NewLease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*idlePause)
	defer cancel()
	if err := s.SweepUnlessBusy(ctx); !errors.Is(err, ErrBusy) {
		t.Errorf("sweep beside a pull, without waiting: %v", err)
	}
	if err := s.SweepIdly(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("sweep beside a pull: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "sub")); err != nil || len(left) != files {
		t.Errorf("%d files are left beside a pull, %v; want %d", len(left), err, files)
	}
	// Nobody waits for ever.
	left := idlePause
	if err := s.giveWay(t.Context(), &left); err != nil || left > 0 {
		t.Errorf("giving way: %v, %v left", err, left)
	}
	if err := lease.Release(); err != nil {
		t.Fatal(err)
	}
	if err := s.SweepUnlessBusy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the trash is still there: %v", err)
	}
}

func TestHasRoom(t *testing.T) {
	for _, c := range []struct {
		name string
		fs   unix.Statfs_t
		want bool
	}{
		{"empty", unix.Statfs_t{Blocks: 1000, Bavail: 1000, Files: 100, Ffree: 100}, true},
		{"no count of files", unix.Statfs_t{Blocks: 1000, Bavail: 500}, true},
		{"full", unix.Statfs_t{Blocks: 1000, Bavail: 10, Files: 100, Ffree: 100}, false},
		{"no more files", unix.Statfs_t{Blocks: 1000, Bavail: 1000, Files: 100, Ffree: 5}, false},
		{"unknown", unix.Statfs_t{}, false},
	} {
		if got := hasRoom(&c.fs); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// What is thrown away while somebody sweeps is deleted, too: who came in vain has left
// it to the one who was at it.
func TestSweepLooksAgain(t *testing.T) {
	s := New(filepath.Join(t.TempDir(), "store"))
	if err := s.Init(); err != nil {
		t.Fatal(err)
	}
	late := s.path("trash", "late")
	if err := os.Mkdir(s.path("trash", "early"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.sweep(t.Context(), func(path string) error {
		if filepath.Base(path) == "early" {
			if err := os.Mkdir(late, 0o700); err != nil {
				return err
			}
			if err := s.Sweep(t.Context()); err != nil || !exists(late) {
				t.Errorf("a second sweeper: %v, it did something: %v", err, !exists(late))
			}
		}
		return os.Remove(path)
	}); err != nil {
		t.Fatal(err)
	}
	if exists(late) {
		t.Error("what was thrown away meanwhile is left")
	}
}
