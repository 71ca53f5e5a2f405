package store

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestTidyCountsWhatWaits: what another process lists at this moment does not wait.
// Commands start a sweeper for what does, one each.
func TestTidyCountsWhatWaits(t *testing.T) {
	root := t.TempDir()
	s := New(root)
	for _, dir := range []string{"locks", "pending"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"layer-a", "files-b"} {
		if err := os.WriteFile(filepath.Join(root, "pending", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if pending, _ := s.Tidy(1); pending != 2 {
		t.Errorf("%d wait, want 2", pending)
	}
	l, err := try(s.path("locks", "files"), syscall.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	if pending, _ := s.Tidy(1); pending != 1 {
		t.Errorf("%d wait while somebody lists, want 1", pending)
	}
}
