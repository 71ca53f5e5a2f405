package unpack_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/provisioner/unpack"
)

// entry is a short form of a tar header with content.
type entry struct {
	tar.Header
	content string
}

func dir(name string, mode int64) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}}
}

func file(name, content string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}, content: content}
}

func symlink(name, target string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

func hardlink(name, target string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}}
}

func char(name string, major, minor int64) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: name, Mode: 0o666, Devmajor: major, Devminor: minor}}
}

func (e entry) with(change func(h *tar.Header)) entry {
	change(&e.Header)
	return e
}

func archive(tb testing.TB, entries ...entry) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		if h.ModTime.IsZero() && h.Typeflag != tar.TypeXGlobalHeader {
			h.ModTime = time.Unix(1_000_000_000, 0)
		}
		if h.Format == tar.FormatUnknown {
			h.Format = tar.FormatPAX
		}
		if err := w.WriteHeader(&h); err != nil {
			tb.Fatalf("header of %q: %v", h.Name, err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// layer unpacks in the real child and returns the directory. Unless limits name a
// number of processors it does so with several and with one, which has to come to the
// same.
func layer(t *testing.T, limits unpack.Limits, data []byte) (string, *unpack.Result, error) {
	t.Helper()
	if limits.Processors > 0 {
		return layerBy(t, limits, data)
	}
	limits.Processors = 1
	one, oneRes, oneErr := layerBy(t, limits, data)
	limits.Processors = 2
	root, res, err := layerBy(t, limits, data)
	if diff := cmp.Diff(res, oneRes); diff != "" {
		t.Errorf("result with several processors and with one (-several +one):\n%s", diff)
	}
	if fmt.Sprint(err) != fmt.Sprint(oneErr) {
		t.Errorf("error with several processors %v, with one %v", err, oneErr)
	}
	if err == nil {
		if diff := cmp.Diff(tree(t, root), tree(t, one)); diff != "" {
			t.Errorf("tree with several processors and with one (-several +one):\n%s", diff)
		}
	}
	return root, res, err
}

func layerBy(t *testing.T, limits unpack.Limits, data []byte) (string, *unpack.Result, error) {
	t.Helper()
	needRoot(t)
	root := filepath.Join(t.TempDir(), "fs")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	res, err := unpack.Run(ctx, command(), f, bytes.NewReader(data), limits)
	return root, res, err
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: layers keep their owners")
	}
}

// tree lists what is in a directory, one line a file.
func tree(t *testing.T, root string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%s %s", rel, describe(t, path, info, st))
		out = append(out, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

func describe(t *testing.T, path string, info fs.FileInfo, st *syscall.Stat_t) string {
	t.Helper()
	perm := fmt.Sprintf("%04o %d:%d", st.Mode&0o7777, st.Uid, st.Gid)
	switch {
	case info.IsDir():
		s := "dir " + perm
		for _, name := range []string{unpack.XattrOpaque, unpack.XattrOrigin} {
			var b [8]byte
			if _, err := unix.Lgetxattr(path, name, b[:]); err == nil {
				s += " " + strings.TrimPrefix(name, "trusted.overlay.")
			}
		}
		return s
	case info.Mode().IsRegular():
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s := fmt.Sprintf("file %s %q", perm, b)
		if st.Nlink > 1 {
			s += fmt.Sprintf(" x%d", st.Nlink)
		}
		return s
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("link %d:%d -> %s", st.Uid, st.Gid, target)
	case info.Mode()&fs.ModeCharDevice != 0 && st.Rdev == 0:
		return "whiteout"
	}
	return fmt.Sprintf("%s %s %d:%d", info.Mode().Type(), perm, unix.Major(st.Rdev), unix.Minor(st.Rdev))
}
