package stack

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// copier copies files between directories; hard links within one layer stay so.
type copier struct {
	links map[uint64]linked // inode of the source -> the first copy
	root  int               // of the destination
	bytes int64
}

type linked struct {
	dir  int // duplicate descriptor of the copy's directory
	name string
}

func newCopier(root int) *copier { return &copier{links: map[uint64]linked{}, root: root} }

func (c *copier) close() {
	for _, l := range c.links {
		_ = unix.Close(l.dir)
	}
	c.links = map[uint64]linked{}
}

// class adds the error class of a full disk.
func class(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EMFILE) {
		return fmt.Errorf("%w: %w", err, containerizer.ErrResourceExhausted)
	}
	return err
}

// file copies n, which is no directory, to name in dir, where nothing is.
func (c *copier) file(dir int, name string, n *node) error {
	if n.st.Nlink > 1 {
		if l, ok := c.links[n.st.Ino]; ok {
			return unix.Linkat(l.dir, l.name, dir, name, 0)
		}
	}
	var err error
	switch n.st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		err = c.regular(dir, name, n)
	case unix.S_IFLNK:
		var target string
		if target, err = readlink(n); err == nil {
			err = unix.Symlinkat(target, dir, name)
		}
		if err == nil {
			err = unix.Fchownat(dir, name, int(n.st.Uid), int(n.st.Gid), unix.AT_SYMLINK_NOFOLLOW)
		}
	default:
		err = special(dir, name, &n.st)
	}
	if err != nil {
		return err
	}
	if err := setTimes(dir, name, &n.st); err != nil {
		return err
	}
	return c.remember(dir, name, n)
}

// special makes a FIFO or device.
func special(dir int, name string, st *unix.Stat_t) error {
	if err := unix.Mknodat(dir, name, st.Mode&unix.S_IFMT|0o600, int(st.Rdev)); err != nil {
		return err
	}
	if err := unix.Fchownat(dir, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.Fchmodat(dir, name, st.Mode&0o7777, 0)
}

func (c *copier) remember(dir int, name string, n *node) error {
	if n.st.Nlink <= 1 {
		return nil
	}
	dup, err := unix.FcntlInt(uintptr(dir), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	c.links[n.st.Ino] = linked{dup, name}
	return nil
}

func (c *copier) regular(dir int, name string, n *node) error {
	in, err := unix.Openat(n.dir, n.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	src := os.NewFile(uintptr(in), n.name)
	defer func() { _ = src.Close() }()
	out, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	dst := os.NewFile(uintptr(out), name)
	defer func() { _ = dst.Close() }() // a failed write was reported
	if unix.IoctlFileClone(out, in) != nil {
		if err := copySparse(dst, src, n.st.Size); err != nil {
			return err
		}
	}
	c.bytes += n.st.Blocks * 512
	return attributes(out, in, &n.st)
}

// copySparse copies data and leaves holes. os.File.ReadFrom uses copy_file_range(2).
func copySparse(dst, src *os.File, size int64) error {
	for off := int64(0); off < size; {
		start, err := unix.Seek(int(src.Fd()), off, unix.SEEK_DATA)
		if err == unix.ENXIO { // no more data
			break
		}
		end := size
		switch err {
		case nil:
			if end, err = unix.Seek(int(src.Fd()), start, unix.SEEK_HOLE); err != nil {
				return err
			}
		case unix.EINVAL: // the file system knows no holes
			start = off
		default:
			return err
		}
		if _, err := src.Seek(start, io.SeekStart); err != nil {
			return err
		}
		if _, err := dst.Seek(start, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(dst, src, end-start); err != nil {
			return err
		}
		off = end
	}
	return dst.Truncate(size)
}

// attributes copies owner, extended attributes and mode, in the order in which
// they last.
func attributes(to, from int, st *unix.Stat_t) error {
	if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return fmt.Errorf("chown: %w", err)
	}
	if err := copyXattrs(to, from); err != nil {
		return err
	}
	if err := unix.Fchmod(to, st.Mode&0o7777); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	return nil
}

// hostXattr says whether an attribute is the overlay's or the host policy's.
func hostXattr(name string) bool {
	return strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "security.selinux")
}

func copyXattrs(to, from int) error {
	list, err := xattrList(from)
	if err != nil {
		return err
	}
	for _, name := range list {
		if hostXattr(name) {
			continue
		}
		value, err := xattr(from, name)
		if err != nil {
			return err
		}
		if err := unix.Fsetxattr(to, name, value, 0); err != nil && err != unix.EOPNOTSUPP {
			return fmt.Errorf("set extended attribute %q: %w", name, err)
		}
	}
	return nil
}

// Xattrs are the extended attributes of a directory that belong to an image; nil if
// there are none.
func Xattrs(dir string) (map[string][]byte, error) {
	fd, err := unix.Open(dir, dirFlags, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	list, err := xattrList(fd)
	if err != nil {
		return nil, err
	}
	var out map[string][]byte
	for _, name := range list {
		if hostXattr(name) {
			continue
		}
		value, err := xattr(fd, name)
		if err != nil {
			return nil, err
		}
		if out == nil {
			out = map[string][]byte{}
		}
		out[name] = value
	}
	return out, nil
}

func xattrList(fd int) ([]string, error) {
	size, err := unix.Flistxattr(fd, nil)
	if err == unix.EOPNOTSUPP || err == nil && size == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list extended attributes: %w", err)
	}
	buf := make([]byte, size)
	if size, err = unix.Flistxattr(fd, buf); err != nil {
		return nil, fmt.Errorf("list extended attributes: %w", err)
	}
	return strings.Split(strings.TrimSuffix(string(buf[:size]), "\x00"), "\x00"), nil
}

func xattr(fd int, name string) ([]byte, error) {
	size, err := unix.Fgetxattr(fd, name, nil)
	if err != nil {
		return nil, fmt.Errorf("get extended attribute %q: %w", name, err)
	}
	if size == 0 {
		return nil, nil
	}
	buf := make([]byte, size)
	if size, err = unix.Fgetxattr(fd, name, buf); err != nil {
		return nil, fmt.Errorf("get extended attribute %q: %w", name, err)
	}
	return buf[:size], nil
}

func setTimes(dir int, name string, st *unix.Stat_t) error {
	ts := []unix.Timespec{st.Atim, st.Mtim}
	if err := unix.UtimesNanoAt(dir, name, ts, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}
