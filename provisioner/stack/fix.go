package stack

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/unpack"
)

// defaultMode is that of a directory which an archive does not list.
const defaultMode = unix.S_IFDIR | 0o755

// fixer makes the directory that goes above one layer.
type fixer struct {
	*copier
	view    *View // the layer and those below
	content *unpack.Result
	opaque  map[string]bool
	implied map[string]bool
	made    map[string]bool
}

// Fix makes, in the empty directory dst, what has to go above the topmost of dirs
// so that the stack shows what unpacking one archive after the other would have:
// directories that its archive did not list keep their attributes, and hard links
// into lower layers exist. content is what unpacking it gave. needed says whether
// there was anything to do.
func Fix(dst string, dirs []string, content *unpack.Result) (needed bool, bytes int64, err error) {
	v, err := Open(dirs)
	if err != nil {
		return false, 0, err
	}
	defer func() { _ = v.Close() }()
	root, err := unix.Open(dst, dirFlags, 0)
	if err != nil {
		return false, 0, fmt.Errorf("open %q: %w", dst, err)
	}
	defer func() { _ = unix.Close(root) }()
	f := &fixer{copier: newCopier(root), view: v, content: content, opaque: map[string]bool{}, implied: map[string]bool{}, made: map[string]bool{}}
	defer f.close()
	if err := f.directories(); err != nil {
		return false, 0, class(err)
	}
	if err := f.hardLinks(); err != nil {
		return false, 0, class(err)
	}
	if len(f.made) == 0 {
		return false, 0, nil
	}
	if err := f.times(); err != nil {
		return false, 0, class(err)
	}
	return true, f.bytes + int64(len(f.made))*4096, nil
}

func split(path string) []string {
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}

// directories makes those whose attributes differ from what unpacking gave them.
func (f *fixer) directories() error {
	for _, p := range f.content.Opaque {
		f.opaque[p] = true
	}
	for _, p := range f.content.Implicit {
		f.implied[p] = true
	}
	for _, p := range f.content.Implicit {
		n, err := f.lower(p)
		if err != nil {
			return fmt.Errorf("look up %q: %w", p, err)
		}
		if n == nil {
			continue
		}
		differs := n.isDir() && !plain(n, p)
		n.close()
		if differs {
			if err := f.ensure(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// lower finds what the layers below the topmost show at path; nil if the topmost
// hides them there.
func (f *fixer) lower(path string) (*node, error) {
	parts := split(path)
	for i := range parts {
		if f.opaque[strings.Join(parts[:i], "/")] {
			return nil, nil
		}
	}
	return f.view.below(1).find(parts)
}

// plain says whether a directory has the attributes that an unlisted one gets.
// Of a layer's root the time of modification does not count: nearly every
// archive leaves the root out.
func plain(n *node, path string) bool {
	if n.st.Mode != defaultMode || n.st.Uid != 0 || n.st.Gid != 0 {
		return false
	}
	if path != "" && (n.st.Mtim.Sec != 0 || n.st.Mtim.Nsec != 0) {
		return false
	}
	fd, err := unix.Openat(n.dir, n.name, dirFlags, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	list, err := xattrList(fd)
	return err == nil && !slices.ContainsFunc(list, func(name string) bool { return !hostXattr(name) })
}

// ensure makes the directory path, and those above it, with the attributes that
// the stack is to show.
func (f *fixer) ensure(path string) error {
	if f.made[path] {
		return nil
	}
	parts := split(path)
	if len(parts) > 0 {
		if err := f.ensure(strings.Join(parts[:len(parts)-1], "/")); err != nil {
			return err
		}
	}
	src, err := f.source(path)
	if err != nil {
		return fmt.Errorf("look up %q: %w", path, err)
	}
	defer src.close()
	from, err := unix.Openat(src.dir, src.name, dirFlags, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", path, err)
	}
	defer func() { _ = unix.Close(from) }()
	to, err := f.makeDir(parts)
	if err != nil {
		return fmt.Errorf("make %q: %w", path, err)
	}
	defer func() { _ = unix.Close(to) }()
	f.made[path] = true
	return attributes(to, from, &src.st)
}

// source is the directory whose attributes path is to have.
func (f *fixer) source(path string) (*node, error) {
	if f.implied[path] {
		n, err := f.lower(path)
		if err != nil {
			return nil, err
		}
		if n != nil && n.isDir() {
			return n, nil
		}
		if n != nil {
			n.close()
		}
	}
	n, err := f.view.find(split(path))
	if err != nil {
		return nil, err
	}
	if n == nil || !n.isDir() {
		return nil, fmt.Errorf("it is not a directory: %w", containerizer.ErrInvalid)
	}
	return n, nil
}

// open opens the directory parts below dst.
func (f *fixer) open(parts []string) (int, error) {
	fd, err := unix.Openat(f.root, ".", dirFlags, 0)
	for _, name := range parts {
		if err != nil {
			return -1, err
		}
		var next int
		next, err = unix.Openat(fd, name, dirFlags, 0)
		_ = unix.Close(fd)
		fd = next
	}
	return fd, err
}

func (f *fixer) makeDir(parts []string) (int, error) {
	if len(parts) > 0 {
		parent, err := f.open(parts[:len(parts)-1])
		if err != nil {
			return -1, err
		}
		err = unix.Mkdirat(parent, parts[len(parts)-1], 0o700)
		_ = unix.Close(parent)
		if err != nil {
			return -1, err
		}
	}
	return f.open(parts)
}

// hardLinks copies the targets from the lower layers, as the overlay would
// copy them up, and makes the links to the copies.
func (f *fixer) hardLinks() error {
	copies := map[string]bool{}
	for _, l := range f.content.Links {
		if err := f.hardLink(l, copies); err != nil {
			return fmt.Errorf("hard link %q to %q: %w", l.Path, l.Target, err)
		}
	}
	return nil
}

func (f *fixer) hardLink(l unpack.Link, copies map[string]bool) error {
	parts, n, err := f.view.below(1).resolve(split(l.Target))
	if err != nil {
		return err
	}
	if n == nil {
		return fmt.Errorf("no layer has the target: %w", containerizer.ErrInvalid)
	}
	defer n.close()
	if n.isDir() {
		return fmt.Errorf("the target is a directory: %w", containerizer.ErrInvalid)
	}
	target := strings.Join(parts, "/")
	hidden, err := f.lower(target)
	if err != nil {
		return err
	}
	if hidden == nil {
		return fmt.Errorf("the layer itself hides the target: %w", containerizer.ErrInvalid)
	}
	hidden.close()
	if !copies[target] {
		if err := f.copyUp(parts, n); err != nil {
			return err
		}
		copies[target] = true
	}
	if l.Path == target {
		return nil
	}
	return f.linkAt(split(l.Path), parts)
}

// copyUp copies n to the same path in dst.
func (f *fixer) copyUp(parts []string, n *node) error {
	dir := parts[:len(parts)-1]
	if err := f.ensure(strings.Join(dir, "/")); err != nil {
		return err
	}
	fd, err := f.open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	single := *n
	single.st.Nlink = 1 // its other names in the lower layer stay there
	return f.file(fd, parts[len(parts)-1], &single)
}

func (f *fixer) linkAt(path, target []string) error {
	if err := f.ensure(strings.Join(path[:len(path)-1], "/")); err != nil {
		return err
	}
	from, err := f.open(target[:len(target)-1])
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(from) }()
	to, err := f.open(path[:len(path)-1])
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(to) }()
	return unix.Linkat(from, target[len(target)-1], to, path[len(path)-1], 0)
}

// times sets those of the directories, after everything was put into them.
func (f *fixer) times() error {
	for path := range f.made {
		src, err := f.source(path)
		if err != nil {
			return err
		}
		fd, err := f.open(split(path))
		if err == nil {
			err = setTimes(fd, ".", &src.st)
			_ = unix.Close(fd)
		}
		src.close()
		if err != nil {
			return fmt.Errorf("%q: %w", path, err)
		}
	}
	return nil
}
