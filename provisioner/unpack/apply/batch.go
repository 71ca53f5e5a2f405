package apply

import (
	"archive/tar"
	"fmt"
	"io"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// smallFile is the largest file whose content is written by the writer.
	smallFile = 64 << 10
	batchSize = 256 << 10
	batchMost = 64 // files
	batches   = 3
)

// pending is a file that was made, and needs content and attributes.
type pending struct {
	name     string // for messages
	fd       int
	off, len int
	attributes
}

// attributes of a file, as far as they are set by its descriptor.
type attributes struct {
	uid, gid int
	mode     uint32
	times    [2]unix.Timespec
}

func attributesOf(h *tar.Header) attributes {
	return attributes{uid: h.Uid, gid: h.Gid, mode: mode(h), times: times(h)}
}

// batch is some files for the writer.
type batch struct {
	buf   []byte
	used  int
	files []pending
}

// writer fills small files in a goroutine of its own. The unpacker makes them
// first, so what an entry finds at its path is what the entries before it made; the
// writer has descriptors only, and cannot be misled by what later entries do to
// names. Files go over in batches: waking a thread costs more than writing one.
type writer struct {
	full  chan *batch
	empty chan *batch
	cur   *batch
	group sync.WaitGroup

	mu  sync.Mutex
	err error
}

func newWriter() *writer {
	w := &writer{full: make(chan *batch, batches), empty: make(chan *batch, batches)}
	for range batches {
		w.empty <- &batch{}
	}
	w.group.Go(w.run)
	return w
}

// add takes over fd, and size bytes of content.
func (w *writer) add(fd int, h *tar.Header, content io.Reader) error {
	size := int(h.Size)
	if w.cur != nil && (w.cur.used+size > batchSize || len(w.cur.files) == batchMost) {
		w.send()
	}
	if w.cur == nil {
		w.cur = <-w.empty
		if w.cur.buf == nil {
			w.cur.buf = make([]byte, batchSize)
		}
	}
	b := w.cur
	b.files = append(b.files, pending{name: h.Name, fd: fd, off: b.used, len: size, attributes: attributesOf(h)})
	if _, err := io.ReadFull(content, b.buf[b.used:b.used+size]); err != nil {
		return tarError(err)
	}
	b.used += size
	return w.failure()
}

func (w *writer) send() {
	w.full <- w.cur // never blocks: as many places as batches
	w.cur = nil
}

func (w *writer) run() {
	for b := range w.full {
		for i := range b.files {
			f := &b.files[i]
			if err := f.finish(b.buf[f.off : f.off+f.len]); err != nil {
				w.fail(fmt.Errorf("entry %q: %w", printable(f.name), classify(err)))
			}
		}
		b.used, b.files = 0, b.files[:0]
		w.empty <- b
	}
}

// finish writes the content and sets the attributes.
func (f *pending) finish(content []byte) error {
	err := writeAll(f.fd, content)
	if err == nil {
		err = f.set(f.fd)
	}
	_ = unix.Close(f.fd) // a failed write was reported
	return err
}

func (w *writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

func (w *writer) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// close waits until all files are written and closed. It is safe to be called twice.
func (w *writer) close() error {
	if w == nil {
		return nil
	}
	if w.full != nil {
		if w.cur != nil {
			w.send()
		}
		close(w.full)
		w.group.Wait()
		w.full = nil
	}
	return w.failure()
}

// set follows an order: chown clears set-id bits, and everything changes times. A
// new file is root's already: no directory has its set-group-ID bit yet.
func (a *attributes) set(fd int) error {
	if a.uid != 0 || a.gid != 0 {
		if err := unix.Fchown(fd, a.uid, a.gid); err != nil {
			return fmt.Errorf("chown: %w", err)
		}
	}
	if a.mode&^0o777 != 0 {
		if err := unix.Fchmod(fd, a.mode); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	return futimens(fd, &a.times)
}

// futimens is what utimensat(2) does without a path, which x/sys cannot express.
func futimens(fd int, ts *[2]unix.Timespec) error {
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(ts)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("set times: %w", errno)
	}
	return nil
}
