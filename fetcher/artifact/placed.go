package artifact

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// movement is a step of placing: from, below the stage, became to, below the
// destination. Without from a directory was made.
type movement struct {
	from, to string
	// exchanged says that what was there is in the stage now.
	exchanged bool
}

// placed is what was placed so far, so that it can be taken back.
type placed struct{ done []movement }

// made notes a new directory.
func (p *placed) made(dir string) { p.done = append(p.done, movement{to: dir}) }

// move renames, in place of what is there unless that is a directory, which goes into
// the stage instead. m is the same by paths.
func (p *placed) move(from int, name string, to int, base string, m movement) error {
	for {
		if isDir(to, base) {
			return fmt.Errorf("%q is a directory already: %w", m.to, containerizer.ErrAlreadyExists)
		}
		err := unix.Renameat2(from, name, to, base, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EEXIST) {
			m.exchanged = true
			err = unix.Renameat2(from, name, to, base, unix.RENAME_EXCHANGE)
		}
		switch {
		case m.exchanged && errors.Is(err, unix.ENOENT): // it has just gone
			m.exchanged = false
			continue
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS): // the file system has neither
			return replace(from, name, to, base, m.to)
		case err != nil:
			return fmt.Errorf("move to %q: %w", m.to, class(err))
		}
		p.done = append(p.done, m)
		return nil
	}
}

// replace is move for file systems where it cannot be taken back.
func replace(from int, name string, to int, base, where string) error {
	err := unix.Renameat(from, name, to, base)
	if errors.Is(err, unix.ENOTDIR) { // a directory in place of a file
		if err := unix.Unlinkat(to, base, 0); err != nil {
			return fmt.Errorf("replace %q: %w", where, err)
		}
		err = unix.Renameat(from, name, to, base)
	}
	if err != nil {
		return fmt.Errorf("move to %q: %w", where, class(err))
	}
	return nil
}

// undo takes everything back, the last first.
func (p *placed) undo(s *stage) error {
	var errs []error
	for len(p.done) > 0 {
		m := p.done[len(p.done)-1]
		p.done = p.done[:len(p.done)-1]
		if err := m.undo(s); err != nil {
			errs = append(errs, fmt.Errorf("take %q back: %w", m.to, err))
		}
	}
	return errors.Join(errs...)
}

func (m *movement) undo(s *stage) error {
	to, err := openParent(int(s.dest.Fd()), m.to)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(to) }() // a directory
	if m.from == "" {
		return unix.Unlinkat(to, path.Base(m.to), unix.AT_REMOVEDIR)
	}
	from, err := openParent(int(s.dir.Fd()), m.from)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(from) }() // a directory
	flags := uint(unix.RENAME_NOREPLACE)
	if m.exchanged {
		flags = unix.RENAME_EXCHANGE
	}
	return unix.Renameat2(to, path.Base(m.to), from, path.Base(m.from), flags)
}

// openParent opens the directory that has name, a path below dir. No link is followed.
func openParent(dir int, name string) (int, error) {
	at, err := unix.Openat(dir, ".", openDir, 0)
	for part := range strings.SplitSeq(path.Dir(name), "/") {
		if err != nil || part == "." {
			break
		}
		var next int
		next, err = unix.Openat(at, part, openDir, 0)
		_ = unix.Close(at) // a directory
		at = next
	}
	return at, err
}
