package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/berth-dev/berth/test/vm/internal/cpio"
	"github.com/berth-dev/berth/test/vm/internal/plan"
)

// tree writes the guest's root filesystem into an archive. Guest paths are
// absolute; folders above a path are made when they are missing, and what is there
// already is left as it is.
type tree struct {
	w    *cpio.Writer
	seen map[string]struct{}
}

func newTree(w io.Writer) *tree {
	return &tree{w: cpio.NewWriter(w), seen: map[string]struct{}{}}
}

func (t *tree) close() error { return t.w.Close() }

// enter announces the guest path, after its parents; false if it is there already.
func (t *tree) enter(guest string, mode uint32, size int64) (bool, error) {
	guest = path.Clean("/" + guest)
	if _, ok := t.seen[guest]; ok {
		return false, nil
	}
	if guest != "/" {
		if err := t.mkdir(path.Dir(guest)); err != nil {
			return false, err
		}
	}
	t.seen[guest] = struct{}{}
	name := strings.TrimPrefix(path.Join(plan.ImageDir, guest), "/")
	return true, t.w.WriteHeader(cpio.Header{Name: name, Mode: mode, Size: size})
}

func (t *tree) mkdir(guest string) error {
	_, err := t.enter(guest, cpio.TypeDir|0o755, 0)
	return err
}

func (t *tree) symlink(guest, target string) error {
	return t.write(guest, cpio.TypeSymlink|0o777, target)
}

func (t *tree) bytes(guest string, data []byte, mode uint32) error {
	return t.write(guest, cpio.TypeRegular|mode, string(data))
}

func (t *tree) write(guest string, mode uint32, content string) error {
	isNew, err := t.enter(guest, mode, int64(len(content)))
	if err != nil || !isNew {
		return err
	}
	_, err = io.WriteString(t.w, content)
	return err
}

// file copies the host's file, following links.
func (t *tree) file(guest, host string) error {
	info, err := os.Stat(host)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%q is not a regular file", host)
	}
	isNew, err := t.enter(guest, cpio.TypeRegular|uint32(info.Mode().Perm()), info.Size())
	if err != nil || !isNew {
		return err
	}
	return t.content(host)
}

// outside puts the host's file beside the image folder, for the kernel.
func (t *tree) outside(name, host string) error {
	info, err := os.Stat(host)
	if err != nil {
		return err
	}
	if err := t.w.WriteHeader(cpio.Header{Name: name, Mode: cpio.TypeRegular | 0o755, Size: info.Size()}); err != nil {
		return err
	}
	return t.content(host)
}

func (t *tree) content(host string) error {
	f, err := os.Open(host)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read from
	_, err = io.Copy(t.w, f)
	return err
}

// copy copies a file or a folder with all in it: files, folders and links.
func (t *tree) copy(guest, host string) error {
	host = filepath.Clean(host)
	return filepath.WalkDir(host, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := path.Join(guest, strings.TrimPrefix(p, host))
		switch {
		case d.IsDir():
			return t.mkdir(to)
		case d.Type()&fs.ModeSymlink != 0 && p != host:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			return t.symlink(to, target)
		}
		return t.file(to, p)
	})
}

// addProgram copies a program of this machine and the libraries ldd(1) finds for it.
func addProgram(ctx context.Context, t *tree, name string) error {
	found, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	if err := t.file("/usr/local/sbin/"+filepath.Base(name), found); err != nil { // before busybox in the path
		return err
	}
	// A static program has nothing to list, which ldd calls an error.
	out, _ := exec.CommandContext(ctx, "ldd", found).Output()
	for _, lib := range regexp.MustCompile(`/\S+`).FindAllString(string(out), -1) {
		if err := t.file(lib, lib); err != nil {
			return err
		}
	}
	return nil
}
