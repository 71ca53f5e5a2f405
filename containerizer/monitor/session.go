package monitor

import (
	"syscall"

	"github.com/berth-dev/berth/containerizer/monitor/internal/offheap"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// session connects a client to the streams of a process.
type session struct {
	conn    *conn // nil when the client has left and only its input is still to be delivered
	tag     uint32
	element *element
	flags   wire.SessionFlags
	told    bool // that the output has ended

	owed int // bytes of output without Ack

	eof              bool   // no more input comes
	stdin            []byte // off the heap: what the process has not taken yet
	stdinAt          int    // where in stdin that begins
	stdinEnd         int
	stdinOwed, taken int // bytes of input without Ack, and how many of them are due one
}

// behind says that the client must catch up before more output is read.
func (s *session) behind() bool {
	return s.flags&wire.SessionPause != 0 && s.owed >= wire.PauseWindow
}

func (s *session) freeStdin() {
	offheap.Free(s.stdin)
	s.stdin, s.stdinAt, s.stdinEnd = nil, 0, 0
}

// session returns the session of a tag, or nil.
func (c *conn) session(tag uint32) *session {
	for _, s := range c.sessions {
		if s.tag == tag {
			return s
		}
	}
	return nil
}

func (m *monitor) addSession(t ticket, el *element, flags wire.SessionFlags) *session {
	s := m.newSession()
	s.conn, s.tag, s.element, s.flags = t.conn, t.tag, el, flags
	t.conn.sessions = append(t.conn.sessions, s)
	el.sessions = append(el.sessions, s)
	m.spent++
	if s.wantsStdin() && el.in.mode == wire.StdinNull {
		m.noStdin(s)
	}
	return s
}

func (s *session) wantsStdin() bool { return s.flags&wire.SessionStdin != 0 }

// noStdin tells a client that the process takes no input.
func (m *monitor) noStdin(s *session) {
	s.flags &^= wire.SessionStdin
	m.tell(ticket{s.conn, s.tag}, wire.TypeStdinClosed, nil)
}

// attach makes a session of a process that exists.
func (m *monitor) attach(t ticket, el *element, flags wire.SessionFlags) {
	switch {
	case flags.Streams() == 0 || t.conn.session(t.tag) != nil:
		m.malformed(t)
	case el.state == wire.StateNamespaces || !el.attachable():
		m.refuse(t, syscall.ENOTCONN, wire.ReasonStdio)
	case len(t.conn.sessions) >= maxSessions || len(el.sessions) >= maxSessions:
		m.refuse(t, syscall.EMFILE, wire.ReasonLimit)
	default:
		m.tell(t, wire.TypeOK, nil)
		s := m.addSession(t, el, flags)
		if s.wantsStdin() && el.in.fd < 0 && el.state == wire.StateRunning {
			m.noStdin(s)
		}
		if !el.open() && el.state == wire.StateRunning {
			s.told = true
			m.tell(t, wire.TypeOutputEnd, nil)
		}
	}
}

// sessionRequest handles the frames of a session. Those for one that has ended
// meanwhile are not wrong, only late.
func (m *monitor) sessionRequest(t ticket, h wire.Header, body []byte) {
	s := t.conn.session(t.tag)
	if h.Type == wire.TypeDetach {
		if s != nil {
			m.endSession(s)
		}
		m.tell(t, wire.TypeOK, nil)
		return
	}
	if s == nil {
		return
	}
	switch h.Type {
	case wire.TypeData:
		m.stdinData(s, body)
	case wire.TypeCloseStdin:
		m.finishStdin(s)
	case wire.TypeAck:
		a, err := wire.ParseAck(body)
		if err != nil || int(a.Bytes) > s.owed {
			m.malformed(t)
			m.endSession(s)
			return
		}
		s.owed -= int(a.Bytes)
		m.resume(s.element)
	case wire.TypeResize:
		r, err := wire.ParseResize(body)
		if err != nil {
			m.malformed(t)
			return
		}
		el := s.element
		if el.out[0].pty && el.out[0].fd >= 0 {
			resize(el.out[0].fd, r)
		} else {
			el.size = r
		}
	default:
	}
}

// endSession ends a session from the client's side or ours. What it has written
// still reaches the process.
func (m *monitor) endSession(s *session) {
	el, c := s.element, s.conn
	for i, other := range c.sessions {
		if other == s {
			c.sessions = append(c.sessions[:i], c.sessions[i+1:]...)
			break
		}
	}
	for i, other := range el.sessions {
		if other == s {
			el.sessions = append(el.sessions[:i], el.sessions[i+1:]...)
			break
		}
	}
	s.conn = nil
	m.finishStdin(s)
	m.resume(el)
	m.freeSession(s)
}

// freeSession takes a session back that has neither client nor input any more.
func (m *monitor) freeSession(s *session) {
	if s.conn == nil && s.stdin == nil {
		m.freeSessions = append(m.freeSessions, s)
	}
}
