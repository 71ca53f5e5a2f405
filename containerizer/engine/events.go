package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// eventBuffer is how many events a reader may be behind.
const eventBuffer = 256

// Events implements [containerizer.Query]: it follows the journal, in which all
// engines over the state folder write.
func (e *Engine) Events(ctx context.Context) (<-chan containerizer.Event, error) {
	if err := e.ready(ctx); err != nil {
		return nil, err
	}
	watch, err := watchFolder(e.journal.folder)
	if err != nil {
		return nil, fmt.Errorf("follow the events: %w", err)
	}
	t := tail{folder: e.journal.folder, number: journalNumber(time.Now())}
	if st, err := os.Stat(t.path(t.number)); err == nil {
		t.offset = st.Size()
	}
	out := make(chan containerizer.Event, eventBuffer)
	e.wg.Go(func() {
		defer close(out)
		ended := make(chan struct{})
		e.wg.Go(func() {
			select {
			case <-ctx.Done():
			case <-e.quit:
			case <-ended:
			}
			_ = watch.Close() // ends the read below; only read
		})
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			if _, err := watch.Read(buf); err != nil {
				return
			}
			for _, ev := range t.next() {
				select {
				case out <- ev:
				default:
					return // too slow
				}
			}
		}
	})
	return out, nil
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

// tail is a place in the journal.
type tail struct {
	folder string
	number int64
	offset int64
}

func (t *tail) path(number int64) string {
	return filepath.Join(t.folder, strconv.FormatInt(number, 10))
}

// next returns the events between t and the end of the journal, and moves there.
func (t *tail) next() []containerizer.Event {
	var events []containerizer.Event
	j := journal{folder: t.folder}
	for _, n := range j.numbers() {
		if n < t.number {
			continue
		}
		if n > t.number {
			t.number, t.offset = n, 0
		}
		b, err := readFrom(t.path(n), t.offset)
		if err != nil {
			continue // pruned meanwhile
		}
		whole := bytes.LastIndexByte(b, '\n') + 1
		for ev := range parseJournal(b[:whole]) {
			events = append(events, ev)
		}
		t.offset += int64(whole)
	}
	return events
}

func readFrom(path string, offset int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(f)
}
