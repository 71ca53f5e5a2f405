package cpio_test

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/berth-dev/berth/test/vm/internal/cpio"
)

// busybox reads what we write: an independent implementation of the format.
func list(t *testing.T, archive []byte) string {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("busybox is not installed")
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), busybox, "cpio", "-idm")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(archive)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("busybox cpio: %v\n%s", err, out)
	}
	show := exec.CommandContext(t.Context(), "sh", "-c", "find . -mindepth 1 | sort | while read f; do stat -c '%n %a %F' $f; done; cat d/file; readlink d/link")
	show.Dir = dir
	out, err := show.CombinedOutput()
	if err != nil {
		t.Fatalf("list: %v\n%s", err, out)
	}
	return string(out)
}

func TestWriter(t *testing.T) {
	var buf bytes.Buffer
	w := cpio.NewWriter(&buf)
	for _, e := range []struct {
		header  cpio.Header
		content string
	}{
		{cpio.Header{Name: "d", Mode: cpio.TypeDir | 0o750}, ""},
		{cpio.Header{Name: "d/file", Mode: cpio.TypeRegular | 0o640, Size: 6}, "hello\n"},
		{cpio.Header{Name: "d/empty", Mode: cpio.TypeRegular | 0o600}, ""},
		{cpio.Header{Name: "d/link", Mode: cpio.TypeSymlink | 0o777, Size: 4}, "file"},
	} {
		if err := w.WriteHeader(e.header); err != nil {
			t.Fatal(err)
		}
		// Byte by byte: padding must come once, at the end.
		for i := range len(e.content) {
			if _, err := w.Write([]byte(e.content[i : i+1])); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	want := `./d 750 directory
./d/empty 600 regular empty file
./d/file 640 regular file
./d/link 777 symbolic link
hello
file
`
	if got := list(t, buf.Bytes()); got != want {
		t.Errorf("unpacked:\n%swant:\n%s", got, want)
	}
}

func TestWriterRefuses(t *testing.T) {
	for name, do := range map[string]func(w *cpio.Writer) error{
		"absolute name": func(w *cpio.Writer) error { return w.WriteHeader(cpio.Header{Name: "/etc"}) },
		"empty name":    func(w *cpio.Writer) error { return w.WriteHeader(cpio.Header{}) },
		"too large":     func(w *cpio.Writer) error { return w.WriteHeader(cpio.Header{Name: "x", Size: 1 << 32}) },
		"too much content": func(w *cpio.Writer) error {
			_ = w.WriteHeader(cpio.Header{Name: "x", Size: 1})
			_, err := w.Write([]byte("ab"))
			return err
		},
		"next entry too early": func(w *cpio.Writer) error {
			_ = w.WriteHeader(cpio.Header{Name: "x", Size: 1})
			return w.WriteHeader(cpio.Header{Name: "y"})
		},
		"close too early": func(w *cpio.Writer) error {
			_ = w.WriteHeader(cpio.Header{Name: "x", Size: 1})
			return w.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := do(cpio.NewWriter(&strings.Builder{}))
			if err == nil {
				t.Fatal("no error")
			}
		})
	}
}
