package logfile

import (
	"bytes"
	"syscall"
)

// Flush writes the entries to the file, rotating it as needed.
func (w *Writer) Flush() {
	data := w.out.b[:w.out.n]
	w.out.n = 0
	if len(data) == 0 {
		return
	}
	if w.Lost > w.told {
		w.tellLost()
	}
	for len(data) > 0 {
		n := w.fitting(data)
		if n == 0 {
			w.rotate()
			continue
		}
		if !w.write(data[:n]) {
			w.Lost += uint64(len(data) - n)
			return
		}
		data = data[n:]
	}
}

// fitting returns how much of the entries in data, in whole ones, goes into the
// file before it must be rotated.
func (w *Writer) fitting(data []byte) int {
	room := w.max - w.size
	if w.max <= 0 || int64(len(data)) <= room {
		return len(data)
	}
	if room > 0 {
		if n := bytes.LastIndexByte(data[:room], '\n') + 1; n > 0 {
			return n
		}
	}
	if w.size == 0 { // an entry longer than the maximum has a file of its own
		return bytes.IndexByte(data, '\n') + 1
	}
	return 0
}

// write writes whole entries. After an error it cuts off the entry that was torn,
// counts what is missing and returns false.
func (w *Writer) write(data []byte) bool {
	done := 0
	for done < len(data) {
		n, err := syscall.Write(w.fd, data[done:])
		if n > 0 {
			done += n
		}
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			whole := bytes.LastIndexByte(data[:done], '\n') + 1
			w.cut(done - whole)
			w.size += int64(whole)
			w.Lost += uint64(len(data) - whole)
			return false
		}
	}
	w.size += int64(done)
	return true
}

// cut removes the last n bytes of the file, where a torn entry is.
func (w *Writer) cut(n int) {
	var st syscall.Stat_t
	if n > 0 && syscall.Fstat(w.fd, &st) == nil && st.Size >= int64(n) {
		_ = syscall.Ftruncate(w.fd, st.Size-int64(n)) // else a reader meets a torn line
	}
}

// tellLost writes an entry that says how much of the log is missing.
func (w *Writer) tellLost() {
	var room [prefixSize + 80]byte
	b := append(room[:0], w.prefix[:stampSize]...)
	b = append(b, streamText(Stderr)...)
	b = append(b, "berth-monitor: "...)
	b = appendNumber(b, w.Lost-w.told)
	b = append(b, " bytes of the log could not be written\n"...)
	before := w.Lost
	if w.write(b) {
		w.told = w.Lost
		return
	}
	w.Lost = before // the notice itself does not count
}

// rotate begins a new file. When that is impossible the log goes on in the old
// one for another maximum.
func (w *Writer) rotate() {
	if w.keep > 1 {
		last := 1 // the first number that is free, or falls off the end
		for last < w.keep-1 && w.exists(w.numbered(last)) {
			last++
		}
		for i := last; i > 1; i-- {
			_ = syscall.Renameat(w.dir, w.numbered(i-1), w.dir, w.numbered(i)) // seen by the size below
		}
		_ = syscall.Renameat(w.dir, w.name, w.dir, w.numbered(1)) // likewise
	} else {
		_ = syscall.Unlinkat(w.dir, w.name)
	}
	_ = w.Reopen()
	if w.size >= w.max {
		w.size = 0
	}
}

func (w *Writer) exists(name string) bool {
	const oPath = 0x200000 // O_PATH
	fd, err := syscall.Openat(w.dir, name, syscall.O_NOFOLLOW|syscall.O_CLOEXEC|oPath, 0)
	if err == nil {
		closeIt(fd)
	}
	return err == nil
}

func (w *Writer) numbered(i int) string {
	return w.name + "." + string(appendNumber(nil, uint64(i)))
}

// closeIt closes a descriptor. Errors of writing were seen when it was written.
func closeIt(fd int) { _ = syscall.Close(fd) }

func appendNumber(b []byte, n uint64) []byte {
	var room [20]byte
	i := len(room)
	for {
		i--
		room[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return append(b, room[i:]...)
		}
	}
}
