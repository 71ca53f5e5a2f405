package rawfile_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer/internal/rawfile"
)

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record")
	for _, write := range []func(string, []byte) error{rawfile.Write, rawfile.Replace} {
		for _, size := range []int{0, 1, 1023, 1024, 1025, 5000, 1 << 20} {
			want := bytes.Repeat([]byte("x"), size)
			if err := write(path, want); err != nil {
				t.Fatal(err)
			}
			if got, err := rawfile.Read(path); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes came back as %d, %v", size, len(got), err)
			}
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) > 0 {
		t.Errorf("left is %q", left)
	}
}

// Files of /proc say that they are empty.
func TestReadProc(t *testing.T) {
	got, err := rawfile.Read("/proc/self/status")
	if err != nil || !strings.HasPrefix(string(got), "Name:") {
		t.Errorf("%q, %v", got, err)
	}
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	for name, err := range map[string]error{
		"read":    second(rawfile.Read(filepath.Join(dir, "no"))),
		"write":   rawfile.Write(filepath.Join(dir, "no", "x"), nil),
		"replace": rawfile.Replace(filepath.Join(dir, "no", "x"), nil),
	} {
		var p *fs.PathError
		if !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &p) || p.Op != "open" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := second(rawfile.Read(dir)); !errors.Is(err, unix.EISDIR) {
		t.Errorf("read a folder: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "folder", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := rawfile.Replace(filepath.Join(dir, "folder"), []byte("x")); err == nil {
		t.Error("a folder was replaced")
	}
	if err := rawfile.Write("/dev/full", []byte("x")); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("write to a full disk: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left is %q", left)
	}
}

func second(_ []byte, err error) error { return err }
