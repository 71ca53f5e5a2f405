package monitor

import (
	"slices"
	"syscall"
	"unsafe"

	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// How often one stream is read before it is the turn of others; a terminal gives
// at most 4 KiB a time.
const (
	readsPipe = 4
	readsPty  = 16
)

// pump moves output of stream i to the log and to the sessions.
func (m *monitor) pump(el *element, i int) {
	o := &el.out[i]
	rounds := readsPipe
	if o.pty {
		rounds = readsPty
	}
	for range rounds {
		if o.fd < 0 || el.paused {
			break
		}
		n, e := read(o.fd, m.chunk)
		if e == syscall.EAGAIN {
			break
		}
		if e != 0 || n == 0 {
			m.hangup(el, i)
			break
		}
		m.unhang(el, o)
		m.deliver(el, i, m.chunk[:n])
		if n < len(m.chunk) && !o.pty {
			break // the pipe is empty, as a rule
		}
	}
	if el.logged {
		el.log.Flush()
	}
	if el.state == wire.StateExited && !el.open() {
		m.remove(el)
	}
}

// hangup handles the end of a stream. A terminal that no process has open reads
// as ended too, but may be opened again as long as the container's process lives:
// then only a change wakes us.
func (m *monitor) hangup(el *element, i int) {
	o := &el.out[i]
	if o.pty && el.alive() {
		if !o.hup {
			o.hup = true
			m.rewatch(o.fd, m.ptyEvents(el))
		}
		return
	}
	if el.logged {
		second, nanosecond := now()
		el.log.End(i, second, nanosecond)
	}
	m.closeOutput(el, i)
	if !el.open() {
		m.endOutput(el)
	}
}

// unhang undoes hangup.
func (m *monitor) unhang(el *element, o *output) {
	if o.hup {
		o.hup = false
		m.rewatch(o.fd, m.ptyEvents(el))
	}
}

// ptyEvents are the events to watch a terminal for. Its hang-up, which is always
// reported, is reported once if it is not read.
func (m *monitor) ptyEvents(el *element) uint32 {
	events := uint32(syscall.EPOLLIN)
	if el.paused {
		events = epollET
	} else if el.out[0].hup {
		events |= epollET
	}
	if el.in.waiting() {
		events |= syscall.EPOLLOUT
	}
	return events
}

// deliver hands output to everybody who wants it.
func (m *monitor) deliver(el *element, i int, data []byte) {
	if el.logged {
		second, nanosecond := now()
		el.log.Write(i, data, second, nanosecond)
	}
	behind := false
	for _, s := range slices.Backward(el.sessions) { // some may go
		if s.conn == nil || s.flags&(wire.SessionStdout<<i) == 0 {
			continue
		}
		if !m.sendOutput(s, i, data) {
			m.tell(ticket{s.conn, s.tag}, wire.TypeDropped, nil)
			m.endSession(s)
			continue
		}
		behind = behind || s.behind()
	}
	if behind && !el.paused {
		m.pause(el)
	}
}

// sendOutput is false when the session is too far behind.
func (m *monitor) sendOutput(s *session, i int, data []byte) bool {
	if s.owed+len(data) > wire.OutputWindow {
		return false
	}
	var head [wire.HeaderSize]byte
	wire.Header{Type: wire.TypeData, Flags: uint16(wire.Stdout) + uint16(i), Tag: s.tag}.Put(head[:])
	if !m.transmit(s.conn, head[:], data, queueSize-reserve) {
		return false
	}
	s.owed += len(data)
	return true
}

// pause stops reading output: the pipe fills up, and the process waits. Pipes
// leave the epoll set, which would report their hang-up for ever.
func (m *monitor) pause(el *element) {
	el.paused = true
	if el.out[0].pty {
		m.rewatch(el.out[0].fd, m.ptyEvents(el))
		return
	}
	for i := range el.out {
		m.unwatch(el.out[i].fd)
	}
}

// resume goes on when no session is behind any more.
func (m *monitor) resume(el *element) {
	if !el.paused {
		return
	}
	for _, s := range el.sessions {
		if s.conn != nil && s.behind() {
			return
		}
	}
	el.paused = false
	if el.out[0].pty {
		m.rewatch(el.out[0].fd, m.ptyEvents(el))
		return
	}
	for i := range el.out {
		fd := el.out[i].fd
		if fd >= 0 && m.watch(fd, syscall.EPOLLIN, watch{kind: watchStdout + watchKind(i), element: el}) != 0 {
			m.closeOutput(el, i) // no memory in the kernel: better than a stuck process
		}
	}
}

func (m *monitor) closeOutput(el *element, i int) {
	o := &el.out[i]
	if o.fd < 0 {
		return
	}
	if o.pty {
		el.in.fd = -1 // the same descriptor
	}
	m.unwatch(o.fd)
	closeFD(&o.fd)
}

// endOutput tells the sessions that no more output comes.
func (m *monitor) endOutput(el *element) {
	for _, s := range el.sessions {
		if !s.told {
			s.told = true
			m.tell(ticket{s.conn, s.tag}, wire.TypeOutputEnd, nil)
		}
	}
}

// drain moves what the ended process has written, whoever is behind, but not what
// others go on writing to the same pipe.
func (m *monitor) drain(el *element) {
	for i := range el.out {
		o := &el.out[i]
		left := 256 << 10 // more than the kernel keeps for a terminal
		if o.fd >= 0 && !o.pty {
			left = available(o.fd)
		}
		for o.fd >= 0 {
			n, e := read(o.fd, m.chunk)
			if e == syscall.EAGAIN {
				break
			}
			if e != 0 || n == 0 {
				m.hangup(el, i)
				break
			}
			m.deliver(el, i, m.chunk[:n])
			if left -= n; left < 0 {
				break
			}
		}
		if el.logged {
			second, nanosecond := now()
			el.log.End(i, second, nanosecond)
		}
	}
}

// available is the number of bytes in a pipe.
func available(fd int) int {
	var n int32
	_ = ioctl(fd, 0x541b, uintptr(unsafe.Pointer(&n))) // FIONREAD, which every pipe knows
	return int(n)
}
