package apply

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/unpack"
)

// notes is what has to be known of paths when the archive has ended. Paths are
// those of the directory stack: resolved, without a leading slash.
type notes struct {
	implicit  map[string]struct{}
	opaque    map[string]struct{}
	fresh     map[string]struct{} // opaque because the lower directory was removed
	whiteouts map[string][]string // directory -> names
	times     map[string][2]unix.Timespec
	late      map[string]lateDir
	links     []unpack.Link
	linkNode  []uint64 // inode of each link's placeholder
	linkFD    []int
	nwhite    int
}

// lateDir is what a directory gets when everything in it was made.
type lateDir struct {
	mode uint32
	acl  string // the default ACL, if any
}

func newNotes() notes {
	return notes{
		implicit:  map[string]struct{}{},
		opaque:    map[string]struct{}{},
		fresh:     map[string]struct{}{},
		whiteouts: map[string][]string{},
		times:     map[string][2]unix.Timespec{},
		late:      map[string]lateDir{},
	}
}

func (n *notes) close() {
	for _, fd := range n.linkFD {
		_ = unix.Close(fd) // an empty file
	}
}

// forget drops a removed directory.
func (n *notes) forget(dir string) {
	delete(n.implicit, dir)
	delete(n.opaque, dir)
	delete(n.fresh, dir)
	delete(n.times, dir)
	delete(n.late, dir)
	n.nwhite -= len(n.whiteouts[dir])
	delete(n.whiteouts, dir)
}

// renew notes that dir is another directory than that of the lower layers.
func (n *notes) renew(dir string) {
	n.opaque[dir] = struct{}{}
	n.fresh[dir] = struct{}{}
}

// unlisted are the directories that are to have the attributes of lower layers.
func (n *notes) unlisted() []string {
	return slices.DeleteFunc(sortedKeys(n.implicit), func(dir string) bool {
		_, fresh := n.fresh[dir]
		return fresh
	})
}

func (n *notes) whiteoutDirs() []string {
	out := make([]string, 0, len(n.whiteouts))
	for dir := range n.whiteouts {
		if _, opaque := n.opaque[dir]; !opaque {
			out = append(out, dir)
		}
	}
	slices.Sort(out)
	return out
}

func (u *unpacker) checkNotes() error {
	n := &u.notes
	if len(n.implicit)+len(n.opaque)+len(n.links)+len(n.late)+n.nwhite > u.limits.Notes {
		return fmt.Errorf("the layer has more than %d whiteouts, unlisted or special directories and foreign links: %w", u.limits.Notes, containerizer.ErrResourceExhausted)
	}
	return nil
}

// markOpaque hides the lower layers in the directory entered. Whiteouts in it
// have nothing left to hide.
func (u *unpacker) markOpaque() error {
	dir := u.dirs.path()
	u.notes.opaque[dir] = struct{}{}
	for _, name := range u.notes.whiteouts[dir] {
		if white, err := u.isWhiteout(name); err != nil {
			return err
		} else if white {
			if err := unix.Unlinkat(u.dirs.top(), name, 0); err != nil {
				return fmt.Errorf("unlink: %w", err)
			}
		}
	}
	u.notes.nwhite -= len(u.notes.whiteouts[dir])
	delete(u.notes.whiteouts, dir)
	return u.checkNotes()
}

// whiteout hides name of the lower layers. What this layer has there stays.
func (u *unpacker) whiteout(name string) error {
	if name == "" || name == "." || name == ".." {
		return invalid("the whiteout names %q", name)
	}
	dir := u.dirs.path()
	if _, opaque := u.notes.opaque[dir]; opaque {
		return nil
	}
	err := unix.Mknodat(u.dirs.top(), name, unix.S_IFCHR, 0)
	switch {
	case err == nil:
		u.notes.whiteouts[dir] = append(u.notes.whiteouts[dir], name)
		u.notes.nwhite++
		return u.checkNotes()
	case err != unix.EEXIST:
		return fmt.Errorf("make the whiteout: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(u.dirs.top(), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		u.notes.renew(join(dir, name))
		// Whiteouts in it are hidden from readers by the overlay.
		return u.checkNotes()
	}
	return nil
}

func (u *unpacker) isWhiteout(name string) (bool, error) {
	var st unix.Stat_t
	err := unix.Fstatat(u.dirs.top(), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("stat: %w", err)
	}
	return whiteoutNode(&st), nil
}

func whiteoutNode(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// implicitDir notes a directory that the archive has not listed.
func (u *unpacker) implicitDir(path string, replaced replacement) error {
	u.disk += blockSize
	if replaced == replacedEntry {
		u.notes.renew(path)
	}
	u.notes.implicit[path] = struct{}{}
	return u.checkNotes()
}

// dropLostLinks keeps the links whose placeholder is still there.
func (u *unpacker) dropLostLinks() error {
	kept := u.notes.links[:0]
	for i, l := range u.notes.links {
		parts, err := u.split(l.Path)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		ok, err := u.dirs.find(parts[:len(parts)-1])
		if err != nil {
			return fmt.Errorf("find %q: %w", l.Path, err)
		}
		if ok && unix.Fstatat(u.dirs.top(), parts[len(parts)-1], &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Ino == u.notes.linkNode[i] {
			kept = append(kept, l)
		}
	}
	u.notes.links = kept
	return nil
}
