package cgroup

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// Extended attributes on directories of ours. The first says which state
// directory a container's group belongs to, which container that is, and since
// when; the second that a parent was made by berth and goes with its last child.
const (
	ownerAttr  = "trusted.berth.owner"
	parentAttr = "trusted.berth.parent"
)

// mark is the content of ownerAttr.
type mark struct {
	owner string
	id    containerizer.ContainerID
	made  time.Time
}

func (m mark) encode() []byte {
	return []byte(strconv.FormatInt(m.made.Unix(), 10) + "\n" + string(m.id) + "\n" + m.owner)
}

func parseMark(b []byte) (mark, error) {
	made, rest, ok := strings.Cut(string(b), "\n")
	id, owner, ok2 := strings.Cut(rest, "\n")
	seconds, err := strconv.ParseInt(made, 10, 64)
	if !ok || !ok2 || err != nil {
		return mark{}, corrupt("an owner's mark", string(b))
	}
	parsed, err := containerizer.ParseContainerID(id)
	if err != nil {
		return mark{}, corrupt("an owner's mark", string(b))
	}
	return mark{owner: owner, id: parsed, made: time.Unix(seconds, 0)}, nil
}

func (i *Isolator) mark(dir string, id containerizer.ContainerID) error {
	m := mark{owner: i.owner, id: id, made: time.Now()}
	if err := retry(func() error { return unix.Setxattr(dir, ownerAttr, m.encode(), 0) }); err != nil {
		return fmt.Errorf("mark the control group %q as ours: %w", dir, err)
	}
	return nil
}

// readMark returns whose container's group dir is; ok is false for others.
func readMark(dir string) (m mark, ok bool) {
	var buf [2048]byte
	var n int
	err := retry(func() (err error) {
		n, err = unix.Getxattr(dir, ownerAttr, buf[:])
		return err
	})
	if err != nil {
		return mark{}, false
	}
	m, err = parseMark(buf[:n])
	return m, err == nil
}

func markParent(dir string) error {
	if err := retry(func() error { return unix.Setxattr(dir, parentAttr, []byte("1"), 0) }); err != nil {
		return fmt.Errorf("mark the control group %q as ours: %w", dir, err)
	}
	return nil
}

// removeParents removes dir and its parents as far as they are marked and empty.
func removeParents(dir string) {
	var b [1]byte
	for {
		if _, err := unix.Getxattr(dir, parentAttr, b[:]); err != nil && !errors.Is(err, unix.ERANGE) {
			return
		}
		if rmdir(dir) != nil {
			return // another container's too
		}
		dir = dir[:strings.LastIndexByte(dir, '/')]
	}
}
