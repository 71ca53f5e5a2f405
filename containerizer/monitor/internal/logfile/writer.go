package logfile

import (
	"bytes"
	"syscall"

	"github.com/berth-dev/berth/containerizer/monitor/internal/offheap"
)

const (
	// MaxLine is the length of the longest text of one entry.
	MaxLine = 16 << 10
	// bufferSize holds what is written to the file at once.
	bufferSize = 64 << 10

	prefixSize = stampSize + len(" stdout F ")
	tagAt      = prefixSize - 2
)

// Streams of a log.
const (
	Stdout = iota
	Stderr
	streams
)

// streamText is what follows the time of an entry.
func streamText(stream int) string {
	if stream == Stdout {
		return " stdout F "
	}
	return " stderr F "
}

// Buffer is where entries are put together. Writers that are never used at the
// same time share one; each leaves it empty behind Flush.
type Buffer struct {
	b []byte
	n int
}

// NewBuffer returns a buffer, whose memory is used from the first entry on.
func NewBuffer() *Buffer { return &Buffer{b: offheap.Alloc(bufferSize)} }

// Discard gives the memory back until the next entry. The buffer must be empty.
func (b *Buffer) Discard() { offheap.Discard(b.b) }

// Writer is the log of one container. It is used from Open to Close.
type Writer struct {
	// Lost counts bytes of the log that could not be written.
	Lost uint64

	dir    int
	name   string
	fd     int
	size   int64
	max    int64
	keep   int
	told   uint64 // how much of Lost the log says
	out    *Buffer
	stamp  stamp
	prefix [prefixSize]byte
	parts  [streams]part
}

// part is the beginning of a line whose end is not there yet.
type part struct {
	b []byte // off the heap; nil before the first use
	n int
}

// Open opens or creates the file name in the directory dir, which must be a
// regular file, and makes w its writer. w owns the descriptor dir from now on, also
// after an error. maxBytes 0 never rotates; keep counts the current file.
func (w *Writer) Open(dir int, name string, maxBytes int64, keep int, out *Buffer) error {
	*w = Writer{dir: dir, name: name, fd: -1, max: maxBytes, keep: keep, out: out}
	err := w.Reopen()
	if err != nil {
		closeIt(dir)
	}
	return err
}

// Reopen opens the file by its name again, after somebody renamed it. On an error
// the writer goes on with the file it has.
func (w *Writer) Reopen() error {
	const flags = syscall.O_WRONLY | syscall.O_APPEND | syscall.O_CREAT | syscall.O_CLOEXEC | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	fd, err := syscall.Openat(w.dir, w.name, flags, 0o640)
	if err != nil {
		return err
	}
	var st syscall.Stat_t
	if err = syscall.Fstat(fd, &st); err == nil && st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		err = syscall.EINVAL // a FIFO or device could block the monitor for ever
	}
	if err != nil {
		closeIt(fd)
		return err
	}
	if w.fd >= 0 {
		closeIt(w.fd)
	}
	w.fd, w.size = fd, st.Size
	return nil
}

// Write adds output of a stream that arrived at the given time. Entries are in
// the file after Flush.
func (w *Writer) Write(stream int, p []byte, second, nanosecond int64) {
	w.stamp.set(second, nanosecond)
	w.setPrefix(stream)
	rest := &w.parts[stream]
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		line := p
		if i >= 0 {
			line = p[:i]
		}
		if room := MaxLine - rest.n; len(line) > room {
			w.entry('P', rest.b[:rest.n], p[:room])
			rest.n, p = 0, p[room:]
			continue
		}
		if i < 0 {
			w.keepPart(rest, p)
			return
		}
		w.entry('F', rest.b[:rest.n], line)
		rest.n, p = 0, p[i+1:]
	}
}

// End writes what is left of a stream's last line, and flushes.
func (w *Writer) End(stream int, second, nanosecond int64) {
	if rest := &w.parts[stream]; rest.n > 0 {
		w.stamp.set(second, nanosecond)
		w.setPrefix(stream)
		w.entry('P', rest.b[:rest.n], nil)
		rest.n = 0
	}
	w.Flush()
}

// Trim gives back memory that an idle log does not need.
func (w *Writer) Trim() {
	for i := range w.parts {
		if rest := &w.parts[i]; rest.n == 0 {
			offheap.Free(rest.b)
			rest.b = nil
		}
	}
}

// Close closes the log. Ends of lines that were not written by End are lost.
func (w *Writer) Close() {
	for i := range w.parts {
		offheap.Free(w.parts[i].b)
		w.parts[i] = part{}
	}
	closeIt(w.fd)
	closeIt(w.dir)
	w.fd, w.dir = -1, -1
}

func (w *Writer) setPrefix(stream int) {
	copy(w.prefix[:], w.stamp.text[:])
	copy(w.prefix[stampSize:], streamText(stream))
}

// keepPart keeps the beginning of a line.
func (w *Writer) keepPart(rest *part, p []byte) {
	if rest.b == nil {
		if rest.b = offheap.Alloc(MaxLine); rest.b == nil {
			w.entry('P', p, nil) // no memory: the line is split here
			return
		}
	}
	rest.n += copy(rest.b[rest.n:], p)
}

// entry adds one entry, whose text is a and b.
func (w *Writer) entry(tag byte, a, b []byte) {
	o := w.out
	if o.n+prefixSize+len(a)+len(b)+1 > len(o.b) {
		w.Flush()
	}
	at := o.b[o.n:]
	copy(at, w.prefix[:])
	at[tagAt] = tag
	n := prefixSize
	n += copy(at[n:], a)
	n += copy(at[n:], b)
	at[n] = '\n'
	o.n += n + 1
}
