package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// eventBuffer is how many events are read ahead of who takes them.
const eventBuffer = 64

// Events implements [containerizer.Query]: it follows the journal, in which all
// engines over the state folder write. A reader that takes its time is behind in the
// journal, not in memory.
func (e *Engine) Events(ctx context.Context, after uint64) (<-chan containerizer.Event, error) {
	if err := e.ready(ctx); err != nil {
		return nil, err
	}
	watch, err := watchFolder(e.journal.folder)
	if err != nil {
		return nil, fmt.Errorf("follow the events: %w", err)
	}
	t, err := newTail(e.journal.folder, after)
	if err != nil {
		return nil, errors.Join(err, watch.Close())
	}
	f := &follower{tail: t, watch: watch, out: make(chan containerizer.Event, eventBuffer), quit: e.quit}
	e.wg.Go(func() {
		defer close(f.out)
		ended := make(chan struct{})
		e.wg.Go(func() {
			select {
			case <-ctx.Done():
			case <-e.quit:
			case <-ended:
			}
			_ = watch.Close() // ends a read; only read
		})
		defer close(ended)
		f.run(ctx)
	})
	return f.out, nil
}

// follower sends what is written to the journal.
type follower struct {
	tail  *tail
	watch *os.File
	out   chan containerizer.Event
	quit  chan struct{}
}

// run sends until nobody wants more, or the reader fell behind the journal.
func (f *follower) run(ctx context.Context) {
	buf := make([]byte, 4096)
	for {
		began := time.Now()
		events, more := f.tail.next()
		for _, ev := range events {
			select {
			case f.out <- ev:
			case <-ctx.Done():
				return
			case <-f.quit:
				return
			}
		}
		if time.Since(began) > journalSpan { // what comes next may be gone
			return
		}
		if more {
			continue
		}
		if _, err := f.watch.Read(buf); err != nil {
			return
		}
	}
}

// watchFolder is an inotify descriptor that becomes readable when a file in
// folder changes.
func watchFolder(folder string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, outOfSpace(fmt.Errorf("inotify: %w", err))
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, folder, unix.IN_MODIFY|unix.IN_CREATE); err != nil {
		return nil, errors.Join(outOfSpace(fmt.Errorf("watch %q: %w", folder, err)), f.Close())
	}
	return f, nil
}

// A sequence number is a place in the journal: the number of the file, and behind it
// the offset of the event's end. It fits the 53 bits that JSON carries everywhere.
const offsetBits = 28

func sequence(number, offset int64) uint64 { return uint64(number<<offsetBits | offset) } //nolint:gosec // both positive

func fromSequence(s uint64) (number, offset int64) {
	return int64(s >> offsetBits), int64(s & (1<<offsetBits - 1)) //nolint:gosec // positive
}

// tailChunk is how much of the journal is read at once.
const tailChunk = 256 << 10

// tail is a place in the journal. It follows all files that are there: one that is
// not the newest may grow still, by a process that was about to write when the next
// one was begun.
type tail struct {
	folder  string
	offsets map[int64]int64 // of what was read, by file
}

// newTail is behind the event with the sequence number after, 0 being the end.
func newTail(folder string, after uint64) (*tail, error) {
	t := &tail{folder: folder, offsets: map[int64]int64{}}
	number, offset := fromSequence(after)
	found := after == 0
	for _, n := range (&journal{folder: folder}).numbers() {
		st, err := os.Stat(t.path(n))
		if err != nil {
			continue // pruned meanwhile
		}
		switch {
		case after == 0 || n < number:
			t.offsets[n] = st.Size()
		case n == number && offset <= st.Size():
			t.offsets[n], found = offset, true
		}
	}
	if !found {
		return nil, fmt.Errorf("what followed event %d is forgotten; list the containers and go on from now: %w", after, containerizer.ErrNotFound)
	}
	return t, nil
}

func (t *tail) path(number int64) string {
	return filepath.Join(t.folder, strconv.FormatInt(number, 10))
}

// next returns events behind t, and moves there. more says that there may be others.
func (t *tail) next() (events []containerizer.Event, more bool) {
	numbers := (&journal{folder: t.folder}).numbers()
	for n := range t.offsets {
		if !slices.Contains(numbers, n) {
			delete(t.offsets, n)
		}
	}
	for _, n := range numbers {
		b, err := readFrom(t.path(n), t.offsets[n])
		if err != nil {
			continue // pruned meanwhile
		}
		whole := bytes.LastIndexByte(b, '\n') + 1
		for end, ev := range parseJournal(b[:whole]) {
			ev.Sequence = sequence(n, t.offsets[n]+end)
			events = append(events, ev)
		}
		if len(b) < tailChunk {
			t.offsets[n] += int64(whole)
			continue
		}
		if whole == 0 { // no event is that long
			whole = len(b)
		}
		t.offsets[n] += int64(whole)
		return events, true
	}
	return events, false
}

// readFrom reads a part of the file at path.
func readFrom(path string, offset int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	return io.ReadAll(io.NewSectionReader(f, offset, tailChunk))
}
