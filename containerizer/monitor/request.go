package monitor

import (
	"syscall"

	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// request handles one frame of a client. Descriptors that it does not use up are
// closed.
func (m *monitor) request(c *conn, frame []byte, fds []int) {
	h, body, err := wire.Parse(frame)
	if err != nil {
		closeAll(fds)
		m.refuse(ticket{c, h.Tag}, syscall.EPROTO, wire.ReasonFrame)
		c.broken = true // there is no telling what else it says
		return
	}
	t := ticket{c, h.Tag}
	switch h.Type {
	case wire.TypeLaunch:
		m.launch(t, body, fds)
		return
	case wire.TypeDescriptors:
		m.keepDescriptors(t, fds)
		return
	case wire.TypeHome:
		m.home(t, body, fds)
		return
	default:
	}
	closeAll(fds)
	if h.Type == wire.TypeData || h.Type == wire.TypeAck || h.Type == wire.TypeCloseStdin ||
		h.Type == wire.TypeResize || h.Type == wire.TypeDetach {
		m.sessionRequest(t, h, body)
		return
	}
	m.elementRequest(t, h, body)
}

// keepDescriptors keeps what does not fit beside the frame of a launch.
func (m *monitor) keepDescriptors(t ticket, fds []int) {
	c := t.conn
	if len(c.fds)+len(fds) > wire.MaxLaunchFDs {
		closeAll(fds)
		m.refuse(t, syscall.EMFILE, wire.ReasonLimit)
		return
	}
	c.fds = append(c.fds, fds...)
}

// home takes the directory of the socket, once, and what the exit command still lacks.
func (m *monitor) home(t ticket, late []byte, fds []int) {
	if m.dir >= 0 || len(fds) != 1 || len(late) > 0 && setLate(late) != 0 {
		closeAll(fds)
		m.malformed(t)
		return
	}
	m.dir = fds[0]
}

// elementRequest handles what names an element, or none.
func (m *monitor) elementRequest(t ticket, h wire.Header, body []byte) {
	switch h.Type {
	case wire.TypeList:
		m.list(t)
		return
	case wire.TypeShutdown:
		m.shutdown(t, h.Flags)
		return
	case wire.TypeSignal:
		if s, err := wire.ParseSignal(body); err != nil {
			m.malformed(t)
		} else if el := m.named(t, s.Name); el != nil {
			m.signal(t, el, s.Signal)
		}
		return
	case wire.TypeHoldNamespaces:
		if r, err := wire.ParseHoldNamespaces(body); err != nil {
			m.malformed(t)
		} else if el := m.named(t, r.Name); el != nil {
			m.holdNamespaces(t, el, r)
		}
		return
	case wire.TypeRelease, wire.TypeWait, wire.TypeAttach, wire.TypeReopenLog:
	default:
		m.refuse(t, syscall.ENOSYS, wire.ReasonFrame) // of a later version
		return
	}
	name, err := wire.ParseName(body)
	if err != nil {
		m.malformed(t)
		return
	}
	el := m.named(t, name)
	if el == nil {
		return
	}
	switch h.Type {
	case wire.TypeRelease:
		m.release(t, el, h.Flags&wire.ReleaseTearDown != 0)
	case wire.TypeWait:
		m.waitFor(t, el)
	case wire.TypeAttach:
		m.attach(t, el, wire.SessionFlags(h.Flags))
	default: // wire.TypeReopenLog
		m.reopenLog(t, el)
	}
}

func (m *monitor) malformed(t ticket) { m.refuse(t, syscall.EINVAL, wire.ReasonFrame) }

// find returns the element of a name, or nil.
func (m *monitor) find(name []byte) *element {
	for _, el := range m.elements {
		if el.name == string(name) {
			return el
		}
	}
	return nil
}

// named is find, and tells the client when there is none.
func (m *monitor) named(t ticket, name []byte) *element {
	el := m.find(name)
	if el == nil {
		m.refuse(t, syscall.ENOENT, wire.ReasonNoElement)
	}
	return el
}

func (m *monitor) list(t ticket) {
	for _, el := range m.elements {
		var exec uint8
		if el.exec {
			exec = 1
		}
		m.tell(t, wire.TypeElement, wire.Element{
			Process: el.process(), State: el.state, Exec: exec, Sessions: uint16(len(el.sessions)),
			LogLost: el.logLost(), Name: []byte(el.name),
		}.Append(m.body()))
	}
	m.tell(t, wire.TypeOK, nil)
}

func (m *monitor) signal(t ticket, el *element, signal uint8) {
	if el.pidfd < 0 {
		m.refuse(t, syscall.ESRCH, wire.ReasonNoElement)
		return
	}
	if e := signalProcess(el.pidfd, signal); e != 0 {
		m.refuse(t, e, wire.ReasonSignal)
		return
	}
	m.tell(t, wire.TypeOK, nil)
}

// waitFor answers when the process of el has ended.
func (m *monitor) waitFor(t ticket, el *element) {
	switch {
	case el.state == wire.StateExited:
		m.tell(t, wire.TypeExited, el.exited().Append(m.body()))
	case len(el.waiters) >= maxSessions:
		m.refuse(t, syscall.EMFILE, wire.ReasonLimit)
	default:
		el.waiters = append(el.waiters, t)
	}
}

func (m *monitor) reopenLog(t ticket, el *element) {
	if el.logged {
		if err := el.log.Reopen(); err != nil {
			m.refuse(t, errno(err), wire.ReasonLog)
			return
		}
	}
	m.tell(t, wire.TypeOK, nil)
}

// release lets a process at the barrier, or held, go on.
func (m *monitor) release(t ticket, el *element, tearDown bool) {
	if el.state != wire.StateBarrier && el.state != wire.StateHeld {
		m.refuse(t, syscall.EBUSY, wire.ReasonState)
		return
	}
	if el.foreign.state == adopted {
		m.releaseForeign(t, el, tearDown)
		return
	}
	if err := el.child.Release(); err != nil {
		m.refuse(t, errno(err), wire.ReasonState)
		return
	}
	el.state = wire.StateStarting
	el.asker = t
	el.addWaiter(t)
	t.conn.promised = t.conn.promised || tearDown
}
