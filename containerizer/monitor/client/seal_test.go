package client

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func copyTrue(tb testing.TB) string {
	tb.Helper()
	if os.Getuid() != 0 {
		tb.Skip("mounts need root")
	}
	b, err := os.ReadFile("/bin/true")
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(tb.TempDir(), "program")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		tb.Fatal(err)
	}
	return path
}

// The executable cannot be written by its sealed path, whether or not it is being
// executed, and a link to it is followed before it is sealed.
func TestSeal(t *testing.T) {
	path := copyTrue(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, link} {
		fds, sealed, err := seal(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.OpenFile(sealed, os.O_WRONLY, 0); !errors.Is(err, unix.EROFS) {
			t.Errorf("open %s for writing: %v, want EROFS", sealed, err)
		}
		if want, err := os.ReadFile(path); err != nil || len(want) == 0 {
			t.Errorf("the program is damaged: %v", err)
		}
		closeAll(fds)
	}
	if _, _, err := seal(filepath.Join(t.TempDir(), "nothing")); !errors.Is(err, unix.ENOENT) {
		t.Errorf("seal nothing: %v, want ENOENT", err)
	}
}

func BenchmarkSeal(b *testing.B) {
	path := copyTrue(b)
	for b.Loop() {
		fds, _, err := seal(path)
		if err != nil {
			b.Fatal(err)
		}
		closeAll(fds)
	}
}
