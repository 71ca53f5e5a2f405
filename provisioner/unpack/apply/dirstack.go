package apply

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

const (
	dirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	maxLinks = 40 // as the kernel's limit on symbolic links of one path
)

type dirNode struct {
	name string
	fd   int
}

// onMissing says what to do where a directory is missing.
type onMissing int

const (
	makeMissing onMissing = iota
	reportMissing
)

// replacement says what a directory that was made took the place of.
type replacement int

const (
	replacedNothing replacement = iota
	replacedEntry               // something else of the same layer
)

// dirStack is the chain of open directories from the root to the one entered.
// Every element is a real directory that was reached without following a link.
type dirStack struct {
	root  int
	nodes []dirNode
	// uid and gid own the directories that enter makes.
	uid, gid int
	// created is told of each directory that enter makes.
	created func(path string, replaced replacement) error
}

// top is the directory entered.
func (d *dirStack) top() int {
	if len(d.nodes) == 0 {
		return d.root
	}
	return d.nodes[len(d.nodes)-1].fd
}

// path is that of the directory entered.
func (d *dirStack) path() string {
	var b strings.Builder
	for i, n := range d.nodes {
		if i > 0 {
			b.WriteByte('/')
		}
		b.WriteString(n.name)
	}
	return b.String()
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

func (d *dirStack) pop(depth int) {
	for len(d.nodes) > depth {
		last := len(d.nodes) - 1
		_ = unix.Close(d.nodes[last].fd) // a directory opened for reading
		d.nodes = d.nodes[:last]
	}
}

func (d *dirStack) close() { d.pop(0) }

// enter makes parts the directory entered, and makes the directories that are
// missing. Symbolic links of this layer are followed inside the root.
func (d *dirStack) enter(parts []string) error {
	_, err := d.walk(parts, makeMissing)
	return err
}

// find is enter without making anything and without following links; false when
// parts is no directory.
func (d *dirStack) find(parts []string) (bool, error) {
	return d.walk(parts, reportMissing)
}

func (d *dirStack) walk(parts []string, missing onMissing) (bool, error) {
	common := 0
	for common < len(d.nodes) && common < len(parts) && d.nodes[common].name == parts[common] {
		common++
	}
	d.pop(common)
	rest := parts[common:]
	links := 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..": // from a link's target only
			d.pop(max(0, len(d.nodes)-1))
			continue
		}
		target, err := d.step(name, missing)
		if errors.Is(err, errMissing) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if target == "" {
			continue
		}
		if missing == reportMissing {
			return false, nil
		}
		if links++; links > maxLinks {
			return false, fmt.Errorf("more than %d symbolic links on the way to it: %w", maxLinks, containerizer.ErrInvalid)
		}
		if target[0] == '/' {
			d.pop(0)
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return true, nil
}

var errMissing = fmt.Errorf("missing: %w", containerizer.ErrNotFound)

// step goes down into name, or returns the target if it is a symbolic link.
func (d *dirStack) step(name string, missing onMissing) (target string, err error) {
	if len(d.nodes) >= 4096 || len(name) > unix.NAME_MAX {
		return "", fmt.Errorf("a symbolic link on the way leads too deep: %w", containerizer.ErrInvalid)
	}
	fd, err := unix.Openat(d.top(), name, dirFlags, 0)
	replaced := replacedNothing
	switch err {
	case nil:
		d.nodes = append(d.nodes, dirNode{name, fd})
		return "", nil
	case unix.ELOOP, unix.ENOTDIR:
		var st unix.Stat_t
		if err := unix.Fstatat(d.top(), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return "", fmt.Errorf("stat %q: %w", name, err)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return readlink(d.top(), name)
		}
		if missing == reportMissing {
			return "", errMissing
		}
		if err := unix.Unlinkat(d.top(), name, 0); err != nil {
			return "", fmt.Errorf("unlink %q: %w", name, err)
		}
		replaced = replacedEntry
	case unix.ENOENT:
		if missing == reportMissing {
			return "", errMissing
		}
	default:
		return "", fmt.Errorf("open directory %q: %w", name, err)
	}
	return "", d.make(name, replaced)
}

// make makes the implicit directory name and enters it.
func (d *dirStack) make(name string, replaced replacement) error {
	if err := unix.Mkdirat(d.top(), name, 0o755); err != nil {
		return fmt.Errorf("make directory %q: %w", name, err)
	}
	fd, err := unix.Openat(d.top(), name, dirFlags, 0)
	if err != nil {
		return fmt.Errorf("open directory %q: %w", name, err)
	}
	d.nodes = append(d.nodes, dirNode{name, fd})
	if d.uid != 0 || d.gid != 0 {
		if err := unix.Fchown(fd, d.uid, d.gid); err != nil {
			return fmt.Errorf("chown directory %q: %w", name, err)
		}
	}
	return d.created(d.path(), replaced)
}

func readlink(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", fmt.Errorf("read link %q: %w", name, err)
	}
	return string(buf[:n]), nil
}
