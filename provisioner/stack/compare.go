package stack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// Compare says in what the directory got differs from want: names, types, modes,
// owners, times of modification, extended attributes, link counts and contents.
func Compare(got, want string) error {
	a, err := unix.Open(got, dirFlags, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", got, err)
	}
	defer func() { _ = unix.Close(a) }()
	b, err := unix.Open(want, dirFlags, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", want, err)
	}
	defer func() { _ = unix.Close(b) }()
	return compareDirs(a, b, "/")
}

func differs(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, containerizer.ErrDataCorrupt)...)
}

func compareDirs(a, b int, path string) error {
	if err := compareXattrs(a, b, path); err != nil {
		return err
	}
	an, err := names(a)
	if err != nil {
		return fmt.Errorf("list %q: %w", path, err)
	}
	bn, err := names(b)
	if err != nil {
		return fmt.Errorf("list %q: %w", path, err)
	}
	slices.Sort(an)
	slices.Sort(bn)
	for _, n := range an {
		if _, found := slices.BinarySearch(bn, n); !found {
			return differs("%q is there and does not belong", path+n)
		}
	}
	for _, n := range bn {
		if _, found := slices.BinarySearch(an, n); !found {
			return differs("%q is missing", path+n)
		}
		if err := compareNodes(a, b, n, path+n); err != nil {
			return err
		}
	}
	return nil
}

func compareNodes(a, b int, name, path string) error {
	var x, y unix.Stat_t
	if err := unix.Fstatat(a, name, &x, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("stat %q: %w", path, err)
	}
	if err := unix.Fstatat(b, name, &y, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("stat %q: %w", path, err)
	}
	dir := x.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case x.Mode != y.Mode:
		return differs("%q has the mode %o, not %o", path, x.Mode, y.Mode)
	case x.Uid != y.Uid || x.Gid != y.Gid:
		return differs("%q belongs to %d:%d, not to %d:%d", path, x.Uid, x.Gid, y.Uid, y.Gid)
	case x.Rdev != y.Rdev, !dir && x.Nlink != y.Nlink, !dir && x.Size != y.Size:
		return differs("%q has another size, device number or link count", path)
	case x.Mtim != y.Mtim && !whiteout(&x):
		return differs("%q was modified", path)
	}
	switch x.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		s, err := readlink(&node{dir: a, name: name})
		if err != nil {
			return err
		}
		t, err := readlink(&node{dir: b, name: name})
		if err != nil {
			return err
		}
		if s != t {
			return differs("%q leads to %q, not to %q", path, s, t)
		}
	case unix.S_IFDIR:
		return compareOpen(a, b, name, path, func(x, y *os.File) error { return compareDirs(int(x.Fd()), int(y.Fd()), path+"/") })
	case unix.S_IFREG:
		return compareOpen(a, b, name, path, func(x, y *os.File) error {
			return errors.Join(compareXattrs(int(x.Fd()), int(y.Fd()), path), compareContent(x, y, path))
		})
	}
	return nil
}

// compareOpen opens the two files for compare.
func compareOpen(a, b int, name, path string, compare func(x, y *os.File) error) error {
	x, err := unix.Openat(a, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", path, err)
	}
	fx := os.NewFile(uintptr(x), path)
	defer func() { _ = fx.Close() }()
	y, err := unix.Openat(b, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", path, err)
	}
	fy := os.NewFile(uintptr(y), path)
	defer func() { _ = fy.Close() }()
	return compare(fx, fy)
}

func compareXattrs(a, b int, path string) error {
	an, err := xattrList(a)
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	bn, err := xattrList(b)
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	slices.Sort(an)
	slices.Sort(bn)
	if !slices.Equal(an, bn) {
		return differs("%q has the extended attributes %q, not %q", path, an, bn)
	}
	for _, n := range an {
		x, err := xattr(a, n)
		if err != nil {
			return err
		}
		y, err := xattr(b, n)
		if err != nil {
			return err
		}
		if !bytes.Equal(x, y) {
			return differs("%q has another value of the extended attribute %q", path, n)
		}
	}
	return nil
}

func compareContent(x, y io.Reader, path string) error {
	var a, b [64 << 10]byte
	for {
		n, err := io.ReadFull(x, a[:])
		m, err2 := io.ReadFull(y, b[:])
		if !bytes.Equal(a[:n], b[:m]) {
			return differs("%q has another content", path)
		}
		if err != nil || err2 != nil {
			if end(err) && end(err2) {
				return nil
			}
			return fmt.Errorf("read %q: %w, %w", path, err, err2)
		}
	}
}

func end(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
