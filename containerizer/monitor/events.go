package monitor

import (
	"slices"
	"syscall"
	"unsafe"
)

// watchKind says what a watched descriptor is.
type watchKind uint8

const (
	watchNothing watchKind = iota
	watchWake              // the event that signals tick
	watchListener
	watchConn
	watchProgress
	watchStdout
	watchStderr
	watchStdin
	watchPty
)

// watch is what to do about a descriptor in the epoll set. serial tells an event
// of an earlier descriptor with the same number.
type watch struct {
	kind    watchKind
	serial  uint32
	conn    *conn
	element *element
}

func (m *monitor) watch(fd int, events uint32, w watch) syscall.Errno {
	for len(m.watches) <= fd {
		m.watches = append(m.watches, watch{})
	}
	m.serial++
	w.serial = m.serial
	m.watches[fd] = w
	return m.control3(syscall.EPOLL_CTL_ADD, fd, events)
}

// rewatch changes the events of a watched descriptor.
func (m *monitor) rewatch(fd int, events uint32) {
	_ = m.control3(syscall.EPOLL_CTL_MOD, fd, events) // it is in the set
}

// unwatch must come before the descriptor is closed: a copy of it in a process
// that has not reached its execve would keep it in the epoll set.
func (m *monitor) unwatch(fd int) {
	if fd >= 0 && fd < len(m.watches) && m.watches[fd].kind != watchNothing {
		m.watches[fd] = watch{}
		_ = m.control3(syscall.EPOLL_CTL_DEL, fd, 0) // it was in the set
	}
}

func (m *monitor) control3(op, fd int, events uint32) syscall.Errno {
	ev := syscall.EpollEvent{Events: events, Fd: int32(fd), Pad: int32(m.watches[fd].serial)}
	return errno(syscall.EpollCtl(m.poll, op, fd, &ev))
}

// wait returns the number of events that are there, and waits for one if there is
// none. Only the waiting is announced to the Go scheduler.
func (m *monitor) wait() int {
	r, _, e := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(m.poll), uintptr(unsafe.Pointer(&m.events)), uintptr(len(m.events)), 0, 0, 0)
	if e == 0 && r > 0 {
		m.dirty = true
		return int(r)
	}
	if m.listener < 0 && m.rootLaunched {
		// While the first process makes itself ready. Without a socket, whoever comes
		// later finds the monitor gone and its processes alive.
		m.listen()
	}
	timeout := m.timeout()
	n, err := syscall.EpollWait(m.poll, m.events[:], timeout)
	if err != nil {
		return 0 // interrupted by a signal, which is an event too
	}
	if n == 0 && timeout == quiet {
		m.trim()
	} else if n > 0 {
		m.dirty = true
	}
	return n
}

// timeout is in milliseconds, -1 for ever.
func (m *monitor) timeout() int {
	next := m.endAt
	for _, el := range m.elements {
		if el.drainUntil != 0 && (next == 0 || el.drainUntil < next) {
			next = el.drainUntil
		}
	}
	if next != 0 {
		if ms := (next - monotonic()) / 1e6; ms < quiet {
			return max(int(ms)+1, 0)
		}
		return quiet - 1
	}
	if m.dirty {
		return quiet
	}
	return -1
}

func (m *monitor) dispatch(ev *syscall.EpollEvent) {
	w := m.watches[ev.Fd]
	if w.serial != uint32(ev.Pad) {
		return
	}
	switch w.kind {
	case watchNothing:
	case watchWake:
		var count [8]byte
		_, _ = read(int(ev.Fd), count[:]) // the number says nothing
		m.reap()
	case watchListener:
		m.accept()
	case watchConn:
		m.connEvent(w.conn, ev.Events)
	case watchProgress:
		m.progress(w.element)
	case watchStdout:
		m.pump(w.element, 0)
	case watchStderr:
		m.pump(w.element, 1)
	case watchStdin:
		m.stdinEvent(w.element, ev.Events)
	case watchPty:
		if ev.Events&syscall.EPOLLOUT != 0 {
			m.stdinEvent(w.element, ev.Events&^(syscall.EPOLLERR|syscall.EPOLLHUP))
		}
		if ev.Events&^syscall.EPOLLOUT != 0 {
			m.pump(w.element, 0)
		}
	}
}

// checkDeadlines gives up on output that others than the ended process hold open.
func (m *monitor) checkDeadlines() {
	for _, el := range slices.Backward(m.elements) {
		if el.drainUntil != 0 && monotonic() >= el.drainUntil {
			m.remove(el)
		}
	}
}
