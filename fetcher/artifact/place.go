package artifact

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// maxDepth bounds how deep trees are merged, and with it the open descriptors.
const maxDepth = 512

// place moves what the job has in the stage to its place.
func (j *job) place() error {
	dest := int(j.x.stage.dest.Fd())
	if j.kind != "" {
		tree, err := unix.Openat(int(j.x.stage.dir.Fd()), j.treeName(), openDir, 0)
		if err != nil {
			return fmt.Errorf("open what was extracted: %w", err)
		}
		m := &merger{placed: &j.x.placed, tree: j.treeName()}
		err = m.merge(tree, dest, "", 0)
		_ = unix.Close(tree) // a directory
		if err != nil {
			return err
		}
	}
	if j.done.Path == "" {
		return nil
	}
	return j.placeFile(dest)
}

func (j *job) placeFile(dest int) error {
	dir, base := path.Split(j.done.Path)
	parent, err := j.parents(dest, dir)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(parent) }() // a directory
	from := int(j.x.stage.dir.Fd())
	fd, err := unix.Openat(from, j.fileName(), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the download: %w", err)
	}
	defer func() { _ = unix.Close(fd) }() // read only
	mode := uint32(0o644)
	if j.Executable {
		mode = 0o755
	}
	if err := unix.Fchown(fd, int(j.owner.UID), int(j.owner.GID)); err != nil {
		return fmt.Errorf("chown to %d:%d: %w", j.owner.UID, j.owner.GID, class(err))
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	return j.x.placed.move(from, j.fileName(), parent, base, movement{from: j.fileName(), to: j.done.Path})
}

// parents opens the directories on the way to a file, and makes those that are
// missing. Links are not followed: nothing of ours has made them.
func (j *job) parents(dest int, dir string) (int, error) {
	at, err := unix.Openat(dest, ".", openDir, 0)
	if err != nil {
		return -1, fmt.Errorf("open the directory: %w", err)
	}
	where := ""
	for name := range strings.SplitSeq(dir, "/") {
		if name == "" || name == "." {
			continue
		}
		where = path.Join(where, name)
		next, err := j.step(at, name, where)
		_ = unix.Close(at) // a directory
		if err != nil {
			return -1, fmt.Errorf("directory %q of the output: %w", name, err)
		}
		at = next
	}
	return at, nil
}

func (j *job) step(at int, name, where string) (int, error) {
	fd, err := unix.Openat(at, name, openDir, 0)
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
		return -1, fmt.Errorf("a link or file is in its place: %w", containerizer.ErrInvalid)
	case !errors.Is(err, unix.ENOENT):
		return -1, err
	}
	if err := unix.Mkdirat(at, name, 0o755); err != nil {
		return -1, class(err)
	}
	j.x.placed.made(where)
	if fd, err = unix.Openat(at, name, openDir, 0); err != nil {
		return -1, err
	}
	if err := unix.Fchown(fd, int(j.owner.UID), int(j.owner.GID)); err != nil {
		_ = unix.Close(fd) // a directory
		return -1, class(err)
	}
	return fd, nil
}

// merger moves what was extracted from one archive.
type merger struct {
	placed *placed
	tree   string // in the stage
}

// merge moves the content of directory from into directory to. Directories that both
// have are merged, everything else is replaced; a link in to is never followed.
func (m *merger) merge(from, to int, at string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%q is more than %d directories deep: %w", at, maxDepth, containerizer.ErrResourceExhausted)
	}
	names, err := list(from)
	if err != nil {
		return fmt.Errorf("list %q: %w", at, err)
	}
	for _, name := range names {
		where := path.Join(at, name)
		if !isDir(from, name) || !isDir(to, name) {
			if err := m.placed.move(from, name, to, name, movement{from: path.Join(m.tree, where), to: where}); err != nil {
				return err
			}
			continue
		}
		if err := m.dir(from, to, name, where, depth); err != nil {
			return err
		}
	}
	return nil
}

func (m *merger) dir(from, to int, name, where string, depth int) error {
	a, err := unix.Openat(from, name, openDir, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", where, err)
	}
	defer func() { _ = unix.Close(a) }() // a directory
	b, err := unix.Openat(to, name, openDir, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", where, err)
	}
	defer func() { _ = unix.Close(b) }() // a directory
	return m.merge(a, b, where, depth+1)
}

func isDir(at int, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(at, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// list returns the names in a directory.
func list(dir int) ([]string, error) {
	fd, err := unix.Openat(dir, ".", openDir, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), ".")
	defer func() { _ = f.Close() }() // a directory
	names, err := f.Readdirnames(-1)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}
