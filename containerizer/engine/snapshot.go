package engine

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// snapshot is what a resident engine knows of all containers, so that a list reads
// only what has changed. Every record is replaced by a rename, whoever writes it:
// inotify(7) has a note of each, which is read when somebody lists, and not before.
// There is no thread that could be late, and a list sees all that was recorded before
// it began. Where a folder cannot be watched, its container is read each time.
type snapshot struct {
	mu       sync.Mutex
	inotify  int // 0 before the first list
	folders  map[int32]folder
	entries  map[containerizer.ContainerID]*entry
	unsorted bool
	sorted   []*containerizer.Status
}

// folder is one that is watched: that of a container, or with children that of the
// containers below one ("": the roots).
type folder struct {
	id       containerizer.ContainerID
	children bool
}

// entry is one container.
type entry struct {
	status *containerizer.Status
	// watched says that changes are heard of; stale that there were some.
	watched, stale bool
}

// settled says that nothing changes without a record.
func (n *entry) settled() bool {
	return n.watched && !n.stale && !n.status.Interrupted &&
		n.status.State != containerizer.StatePreparing && n.status.State != containerizer.StateDestroying
}

// recordChanged are the changes that a watched folder may have.
const recordChanged = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_CLOSE_WRITE | unix.IN_ONLYDIR

// list returns all containers, by creation time.
func (s *snapshot) list(e *Engine) ([]*containerizer.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inotify == 0 {
		if err := s.begin(e); err != nil {
			return nil, err
		}
	}
	whole, err := s.heed()
	if err != nil {
		return nil, err
	}
	if !whole {
		if err := s.look(e); err != nil {
			return nil, err
		}
	}
	for id, n := range s.entries {
		if !n.settled() {
			s.refresh(e, id, n)
		}
	}
	if s.unsorted {
		s.sort()
	}
	return s.sorted, nil
}

func (s *snapshot) begin(e *Engine) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return outOfSpace(fmt.Errorf("watch the containers: %w", err))
	}
	s.inotify, s.folders, s.entries = fd, map[int32]folder{}, map[containerizer.ContainerID]*entry{}
	if !s.watch(filepath.Join(e.state, containersFolder), folder{children: true}) {
		s.end()
		return fmt.Errorf("watch the folder of the containers in %q: %w", e.state, containerizer.ErrResourceExhausted)
	}
	return s.look(e)
}

// end gives the notes up.
func (s *snapshot) end() {
	if s.inotify != 0 {
		_ = unix.Close(s.inotify) // only read
		s.inotify = 0
	}
}

func (s *snapshot) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end()
}

// watch says whether changes in a folder are heard of from now on.
func (s *snapshot) watch(path string, f folder) bool {
	wd, err := unix.InotifyAddWatch(s.inotify, path, recordChanged)
	if err != nil {
		return false
	}
	s.folders[int32(wd)] = f //nolint:gosec // the kernel's are 32 bits
	return true
}

// look finds all containers, and has each read.
func (s *snapshot) look(e *Engine) error {
	ids, err := tree(filepath.Join(e.state, containersFolder), "")
	if err != nil {
		return err
	}
	for _, n := range s.entries {
		n.stale = true
	}
	for _, id := range ids {
		s.mark(id)
	}
	return nil
}

func (s *snapshot) mark(id containerizer.ContainerID) {
	if n := s.entries[id]; n != nil {
		n.stale = true
		return
	}
	s.entries[id] = &entry{stale: true, status: &containerizer.Status{}}
	s.unsorted = true
}

// heed reads what the kernel noted. whole is false when that is not all.
func (s *snapshot) heed() (whole bool, err error) {
	buf := make([]byte, 64<<10)
	whole = true
	for {
		n, err := unix.Read(s.inotify, buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return whole, nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return false, fmt.Errorf("read what changed: %w", err)
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
			wd, mask := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:]) //nolint:gosec // struct inotify_event
			name := string(bytes.TrimRight(b[unix.SizeofInotifyEvent:size], "\x00"))
			b = b[size:]
			if mask&unix.IN_Q_OVERFLOW != 0 {
				whole = false
				continue
			}
			s.note(wd, mask, name)
		}
	}
}

// note marks what one note of the kernel is about.
func (s *snapshot) note(wd int32, mask uint32, name string) {
	f, known := s.folders[wd]
	switch {
	case !known:
	case mask&unix.IN_IGNORED != 0: // the folder is gone
		delete(s.folders, wd)
	case !f.children:
		s.mark(f.id)
	default:
		id := containerizer.ContainerID(name)
		if f.id != "" {
			id = f.id.Child(name)
		}
		if _, err := containerizer.ParseContainerID(string(id)); err == nil && mask&unix.IN_ISDIR != 0 {
			s.mark(id)
		}
	}
}

// refresh reads one container. The folders are watched before they are read, so that
// nothing is missed.
func (s *snapshot) refresh(e *Engine, id containerizer.ContainerID, n *entry) {
	dir := e.dir(id)
	watched := s.watch(dir, folder{id: id})
	// Children come and go in a folder that is made with the first.
	if s.watch(filepath.Join(dir, childrenFolder), folder{id: id, children: true}) {
		s.lookBelow(e, id)
	}
	status, err := e.status(id)
	switch {
	case errors.Is(err, containerizer.ErrNotFound):
		delete(s.entries, id)
		s.unsorted = true
		return
	case err != nil:
		status = damagedStatus(id, err)
	}
	n.status, n.watched, n.stale = status, watched, false
	s.replace(status)
}

// lookBelow finds the children of id that are not known.
func (s *snapshot) lookBelow(e *Engine, id containerizer.ContainerID) {
	ids, err := childIDs(filepath.Join(e.state, containersFolder), id)
	if err != nil {
		return // gone since
	}
	for _, child := range ids {
		if s.entries[child] == nil {
			s.mark(child)
			s.refresh(e, child, s.entries[child])
		}
	}
}

// replace puts a status where an earlier one of the container is in the list.
func (s *snapshot) replace(status *containerizer.Status) {
	if s.unsorted {
		return
	}
	i, found := slices.BinarySearchFunc(s.sorted, status, byAge)
	if !found {
		s.unsorted = true
		return
	}
	s.sorted = slices.Clone(s.sorted) // earlier lists are still read
	s.sorted[i] = status
}

// byAge orders containers by their creation.
func byAge(a, b *containerizer.Status) int {
	return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(string(a.ID), string(b.ID)))
}

func (s *snapshot) sort() {
	s.sorted = s.sorted[:0:0] // earlier ones are still read
	for _, n := range s.entries {
		s.sorted = append(s.sorted, n.status)
	}
	slices.SortFunc(s.sorted, byAge)
	s.unsorted = false
}
