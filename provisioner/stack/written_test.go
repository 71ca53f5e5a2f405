package stack_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-dev/berth/provisioner/stack"
)

func TestWritten(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	write := func(path string, size int) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.Repeat("x", size)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(outside, "big"), 8<<20)
	write(filepath.Join(dir, "a"), 1<<20)
	write(filepath.Join(dir, "sub", "b"), 1<<20)
	for _, err := range []error{
		os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "sub", "again")),
		os.Symlink(outside, filepath.Join(dir, "out")),
		os.Symlink(filepath.Join(outside, "big"), filepath.Join(dir, "sub", "out")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	u, err := stack.Written(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if u.Inodes != 5 || u.Bytes < 2<<20 || u.Bytes > 3<<20 {
		t.Errorf("Written = %+v, want 5 inodes (a, sub, b, two links) and about 2 MiB", u)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := stack.Written(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("Written when nobody wants it = %v", err)
	}
}

// TestWrittenDeep: a tree deeper than any path is no trouble.
func TestWrittenDeep(t *testing.T) {
	const deep = 3000
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	name := root.Name()
	for range deep {
		if err := root.Mkdir("d", 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := root.OpenRoot("d")
		_ = root.Close()
		if err != nil {
			t.Fatal(err)
		}
		root = next
	}
	_ = root.Close()
	u, err := stack.Written(t.Context(), name)
	if err != nil || u.Inodes == 0 || u.Inodes > deep {
		t.Errorf("Written = %+v, %v", u, err)
	}
}
