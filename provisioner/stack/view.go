package stack

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/unpack"
)

const (
	dirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	maxLinks = 40
)

// View is an open stack, topmost layer first.
type View struct{ roots []int }

// Open opens layer directories, topmost first.
func Open(dirs []string) (*View, error) {
	v := &View{}
	for _, d := range dirs {
		fd, err := unix.Open(d, dirFlags, 0)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open layer %q: %w", d, err), v.Close())
		}
		v.roots = append(v.roots, fd)
	}
	return v, nil
}

// Close closes the layers.
func (v *View) Close() error {
	for _, fd := range v.roots {
		_ = unix.Close(fd) // were only read
	}
	v.roots = nil
	return nil
}

// below is the view without its n topmost layers. It shares the descriptors.
func (v *View) below(n int) *View { return &View{roots: v.roots[n:]} }

// node is a file found: its name in an open directory.
type node struct {
	dir  int // to be closed, unless the node is a layer's root
	name string
	st   unix.Stat_t
}

func (n *node) close() { _ = unix.Close(n.dir) }

func (n *node) isDir() bool { return n.st.Mode&unix.S_IFMT == unix.S_IFDIR }

// errHidden ends the search: what is below is covered.
var errHidden = errors.New("hidden")

// find looks parts up as the overlay would; nil when there is nothing.
// Intermediate symbolic links end the search, as a file would.
func (v *View) find(parts []string) (*node, error) {
	for _, root := range v.roots {
		n, err := findIn(root, parts)
		if errors.Is(err, errHidden) {
			return nil, nil
		}
		if n != nil || err != nil {
			return n, err
		}
	}
	return nil, nil
}

// findIn looks into one layer: the node, nil to go on below, or errHidden.
func findIn(root int, parts []string) (*node, error) {
	dir, err := unix.Openat(root, ".", dirFlags, 0)
	if err != nil {
		return nil, fmt.Errorf("open a layer: %w", err)
	}
	if len(parts) == 0 {
		n := &node{dir: dir, name: "."}
		if err := unix.Fstat(dir, &n.st); err != nil {
			n.close()
			return nil, fmt.Errorf("stat a layer: %w", err)
		}
		return n, nil
	}
	var absent error // errHidden once an opaque directory was passed
	for i, name := range parts {
		n := &node{dir: dir, name: name}
		if err := n.stat(); err != nil {
			n.close()
			if errors.Is(err, unix.ENOENT) {
				return nil, absent
			}
			return nil, fmt.Errorf("look up %q: %w", strings.Join(parts, "/"), err)
		}
		if i == len(parts)-1 {
			return n, nil
		}
		dir, err = unix.Openat(n.dir, name, dirFlags, 0)
		n.close()
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			return nil, errHidden
		}
		if err != nil {
			return nil, fmt.Errorf("open %q: %w", strings.Join(parts[:i+1], "/"), err)
		}
		if opaque(dir) {
			absent = errHidden
		}
	}
	return nil, nil // not reached: parts is not empty
}

// stat fills in n.st; a whiteout is errHidden.
func (n *node) stat() error {
	if err := unix.Fstatat(n.dir, n.name, &n.st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if whiteout(&n.st) {
		return errHidden
	}
	return nil
}

func whiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

func opaque(fd int) bool {
	var b [1]byte
	n, err := unix.Fgetxattr(fd, unpack.XattrOpaque, b[:])
	return err == nil && n == 1 && b[0] == 'y'
}

// resolve looks parts up and follows symbolic links on the way, inside the root,
// but not the last component's. It returns the path without links as well.
func (v *View) resolve(parts []string) ([]string, *node, error) {
	var done []string
	rest := parts
	for links := 0; ; {
		if len(rest) == 0 {
			n, err := v.find(done)
			return done, n, err
		}
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			done = done[:max(0, len(done)-1)]
			continue
		}
		done = append(slices.Clip(done), name)
		if len(rest) == 0 {
			continue
		}
		n, err := v.find(done)
		if n == nil || err != nil {
			return nil, nil, err
		}
		if n.st.Mode&unix.S_IFMT != unix.S_IFLNK {
			n.close()
			continue
		}
		target, err := readlink(n)
		n.close()
		if err != nil {
			return nil, nil, err
		}
		if links++; links > maxLinks {
			return nil, nil, fmt.Errorf("%q: more than %d symbolic links: %w", strings.Join(parts, "/"), maxLinks, containerizer.ErrInvalid)
		}
		done = done[:len(done)-1]
		if strings.HasPrefix(target, "/") {
			done = nil
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
}

func readlink(n *node) (string, error) {
	buf := make([]byte, unix.PathMax)
	size, err := unix.Readlinkat(n.dir, n.name, buf)
	if err != nil {
		return "", fmt.Errorf("read link %q: %w", n.name, err)
	}
	return string(buf[:size]), nil
}

// names lists a directory, from its start.
func names(fd int) ([]string, error) {
	if _, err := unix.Seek(fd, 0, io.SeekStart); err != nil {
		return nil, err
	}
	var out []string
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			return out, nil
		}
		_, _, out = unix.ParseDirent(buf[:n], -1, out)
	}
}
