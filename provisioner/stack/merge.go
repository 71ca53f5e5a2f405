package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Copy makes the tree that the overlay of dirs (topmost first) would show, in the
// new directory dst. Precondition: nobody else writes there.
func Copy(ctx context.Context, dst string, dirs []string) error {
	if err := os.Mkdir(dst, 0o755); err != nil { //nolint:gosec // a container's root; its mode is set below
		return fmt.Errorf("make %q: %w", dst, class(err))
	}
	root, err := unix.Open(dst, dirFlags, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", dst, err)
	}
	defer func() { _ = unix.Close(root) }()
	v, err := Open(dirs)
	if err != nil {
		return err
	}
	defer func() { _ = v.Close() }()
	for i, layer := range slices.Backward(v.roots) {
		m := &merger{ctx: ctx, copier: newCopier(root)}
		err := m.merge(root, layer)
		m.close()
		if err != nil {
			return fmt.Errorf("copy layer %q: %w", dirs[i], class(err))
		}
	}
	return nil
}

// merger applies one layer to a tree.
type merger struct {
	*copier
	ctx context.Context //nolint:containedctx // lives for one layer
}

// merge applies the content of directory src to directory dst.
func (m *merger) merge(dst, src int) error {
	if err := m.ctx.Err(); err != nil {
		return context.Cause(m.ctx)
	}
	if opaque(src) {
		if err := clearDir(dst); err != nil {
			return err
		}
	}
	list, err := names(src)
	if err != nil {
		return err
	}
	for _, name := range list {
		n := &node{dir: src, name: name}
		if err := unix.Fstatat(src, name, &n.st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("stat %q: %w", name, err)
		}
		if err := m.one(dst, n); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	// An overlay shows the attributes of the uppermost directory only.
	if err := clearXattrs(dst, src); err != nil {
		return err
	}
	if err := attributes(dst, src, &st); err != nil {
		return err
	}
	return setTimes(dst, ".", &st)
}

// clearXattrs removes the extended attributes of dst that src lacks.
func clearXattrs(dst, src int) error {
	have, err := xattrList(dst)
	if err != nil || len(have) == 0 {
		return err
	}
	want, err := xattrList(src)
	if err != nil {
		return err
	}
	for _, name := range have {
		if hostXattr(name) || slices.Contains(want, name) {
			continue
		}
		if err := unix.Fremovexattr(dst, name); err != nil && err != unix.ENODATA {
			return fmt.Errorf("remove extended attribute %q: %w", name, err)
		}
	}
	return nil
}

func (m *merger) one(dst int, n *node) error {
	var old unix.Stat_t
	err := unix.Fstatat(dst, n.name, &old, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == unix.ENOENT:
	case err != nil:
		return err
	case n.isDir() && old.Mode&unix.S_IFMT == unix.S_IFDIR:
		return m.dir(dst, n)
	default:
		if err := removeAt(dst, n.name); err != nil {
			return err
		}
	}
	if whiteout(&n.st) {
		return nil
	}
	if !n.isDir() {
		return m.file(dst, n.name, n)
	}
	if err := unix.Mkdirat(dst, n.name, 0o700); err != nil {
		return err
	}
	return m.dir(dst, n)
}

func (m *merger) dir(dst int, n *node) error {
	from, err := unix.Openat(n.dir, n.name, dirFlags, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(from) }()
	to, err := unix.Openat(dst, n.name, dirFlags, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(to) }()
	return m.merge(to, from)
}

func clearDir(fd int) error {
	list, err := names(fd)
	if err != nil {
		return err
	}
	for _, name := range list {
		if err := removeAt(fd, name); err != nil {
			return fmt.Errorf("remove %q: %w", name, err)
		}
	}
	return nil
}

// removeAt removes name in dir and everything below it.
func removeAt(dir int, name string) error {
	err := unix.Unlinkat(dir, name, 0)
	if !errors.Is(err, unix.EISDIR) {
		return err
	}
	fd, err := unix.Openat(dir, name, dirFlags, 0)
	if err != nil {
		return err
	}
	err = clearDir(fd)
	_ = unix.Close(fd)
	if err != nil {
		return err
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

// Paths joins names of layers to their directories.
func Paths(names []string, path func(string) string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = filepath.Clean(path(n))
	}
	return out
}
