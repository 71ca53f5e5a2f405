package store_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/berth-dev/berth/provisioner/store"
)

func TestTidyStaysWithinItsBudget(t *testing.T) {
	root := t.TempDir()
	s := store.New(root)
	if err := s.Init(); err != nil {
		t.Fatal(err)
	}
	if _, trash := s.Tidy(10); trash != 0 {
		t.Errorf("an empty store has %d things in its trash", trash)
	}
	tree := filepath.Join(root, "tree")
	for n := range 20 {
		if err := os.MkdirAll(filepath.Join(tree, "dir"+strconv.Itoa(n), "work"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Trash(tree); err != nil {
		t.Fatal(err)
	}
	if _, trash := s.Tidy(10); trash != 1 {
		t.Errorf("after 10 removals %d things are left, want 1", trash)
	}
	if _, trash := s.Tidy(100); trash != 0 {
		t.Errorf("after 110 removals %d things are left", trash)
	}
	if left, err := os.ReadDir(filepath.Join(root, "trash")); err != nil || len(left) > 0 {
		t.Errorf("the trash holds %v, %v", left, err)
	}
}
