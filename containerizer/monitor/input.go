package monitor

import (
	"syscall"
	"unsafe"

	"github.com/berth-dev/berth/containerizer/monitor/internal/offheap"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// input is the way to a process's standard input.
type input struct {
	fd   int // the pipe or terminal; -1 when there is none, or it was closed
	mode wire.StdinMode
	// sources are the sessions with bytes that the pipe could not take, in the order
	// in which they go on.
	sources []*session
}

func (in *input) waiting() bool { return len(in.sources) > 0 }

// stdinData takes bytes of a client for the process.
func (m *monitor) stdinData(s *session, data []byte) {
	el := s.element
	if !s.wantsStdin() {
		return // as it was told
	}
	if s.eof || s.stdinOwed+len(data) > wire.StdinWindow {
		m.refuse(ticket{s.conn, s.tag}, syscall.EPROTO, wire.ReasonFrame)
		m.endSession(s)
		return
	}
	s.stdinOwed += len(data)
	switch {
	case el.in.fd < 0 && !el.expectsPty():
		m.stdinTaken(s, len(data))
	case el.in.fd < 0, el.in.waiting():
		m.keepStdin(s, data)
	default:
		m.writeStdin(s, data)
	}
}

// writeStdin gives the process what it takes now, and keeps the rest.
func (m *monitor) writeStdin(s *session, data []byte) {
	n, e := write(s.element.in.fd, data)
	if e == syscall.EAGAIN {
		n = 0
	} else if e != 0 {
		m.closeStdin(s.element)
		return
	}
	m.stdinTaken(s, n)
	if n < len(data) {
		m.keepStdin(s, data[n:])
	}
}

// keepStdin keeps what the process does not take now.
func (m *monitor) keepStdin(s *session, data []byte) {
	el := s.element
	if s.stdin == nil {
		if s.stdin = offheap.Alloc(wire.StdinWindow); s.stdin == nil {
			m.refuse(ticket{s.conn, s.tag}, syscall.ENOMEM, wire.ReasonLimit)
			m.endSession(s)
			return
		}
		el.in.sources = append(el.in.sources, s)
	}
	if s.stdinEnd+len(data) > len(s.stdin) {
		s.stdinEnd = copy(s.stdin, s.stdin[s.stdinAt:s.stdinEnd])
		s.stdinAt = 0
	}
	s.stdinEnd += copy(s.stdin[s.stdinEnd:], data)
	m.watchStdin(el)
}

// watchStdin watches for room as long as somebody needs it.
func (m *monitor) watchStdin(el *element) {
	switch fd := el.in.fd; {
	case fd < 0:
	case el.out[0].pty:
		m.rewatch(fd, m.ptyEvents(el))
	case el.in.waiting():
		m.rewatch(fd, syscall.EPOLLOUT)
	default:
		m.rewatch(fd, 0) // a reader that goes away is reported all the same
	}
}

// stdinEvent goes on when the process has taken something, or will take no more.
func (m *monitor) stdinEvent(el *element, events uint32) {
	if events&syscall.EPOLLERR != 0 {
		m.closeStdin(el)
		return
	}
	m.flushStdin(el)
}

func (m *monitor) flushStdin(el *element) {
	for el.in.fd >= 0 && el.in.waiting() {
		s := el.in.sources[0]
		n, e := write(el.in.fd, s.stdin[s.stdinAt:s.stdinEnd])
		if e == syscall.EAGAIN {
			break
		}
		if e != 0 {
			m.closeStdin(el)
			return
		}
		s.stdinAt += n
		m.stdinTaken(s, n)
		if s.stdinAt == s.stdinEnd {
			el.in.sources = append(el.in.sources[:0], el.in.sources[1:]...)
			s.freeStdin()
			if s.eof {
				m.stdinEOF(s)
			}
			m.freeSession(s)
		}
	}
	m.watchStdin(el)
}

// stdinTaken gives a client back what the process has taken.
func (m *monitor) stdinTaken(s *session, n int) {
	s.taken += n
	if s.conn != nil && s.taken >= wire.StdinWindow/4 {
		m.tell(ticket{s.conn, s.tag}, wire.TypeAck, wire.Ack{Bytes: uint32(s.taken)}.Append(m.body()))
		s.stdinOwed -= s.taken
		s.taken = 0
	}
}

// finishStdin is the end of what a session writes. What it has written before
// reaches the process.
func (m *monitor) finishStdin(s *session) {
	if !s.wantsStdin() || s.eof {
		return
	}
	s.eof = true
	if s.stdin == nil {
		m.stdinEOF(s)
	}
}

// stdinEOF passes the end of a session's input on to the process, if that was to
// happen. On a terminal it is the end-of-file character.
func (m *monitor) stdinEOF(s *session) {
	el := s.element
	switch {
	case el.in.mode != wire.StdinOnce || el.in.fd < 0:
	case el.out[0].pty:
		veof := [1]byte{endOfFile(el.in.fd)}
		_, _ = write(el.in.fd, veof[:]) // a full terminal has lost more than that
	default:
		m.closeStdin(el)
	}
}

// endOfFile is the character that a terminal takes for the end of input.
func endOfFile(fd int) byte {
	var t syscall.Termios
	if ioctl(fd, syscall.TCGETS, uintptr(unsafe.Pointer(&t))) != 0 || t.Cc[syscall.VEOF] == 0 {
		return 4 // ^D
	}
	return t.Cc[syscall.VEOF]
}

// closeStdin closes the process's standard input, or notices that the process
// has, and tells the sessions.
func (m *monitor) closeStdin(el *element) {
	for _, s := range el.in.sources {
		s.freeStdin()
		m.freeSession(s)
	}
	el.in.sources = el.in.sources[:0]
	if el.in.fd < 0 {
		return
	}
	if el.out[0].pty {
		el.in.fd = -1 // the output goes on
	} else {
		m.unwatch(el.in.fd)
		closeFD(&el.in.fd)
	}
	for _, s := range el.sessions {
		if s.wantsStdin() {
			m.noStdin(s)
		}
	}
}
