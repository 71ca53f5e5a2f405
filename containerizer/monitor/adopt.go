package monitor

import (
	"syscall"
	"unsafe"

	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// An OCI runtime makes a process and ends, upon which the process is a child of the
// nearest subreaper: the monitor.

// adoptState says whose child the process of an element is.
type adoptState uint8

const (
	// adoptNot: the monitor's own.
	adoptNot adoptState = iota
	// adoptPending: the element's process is a runtime that makes another one.
	adoptPending
	// adopted: a runtime's, which has ended.
	adopted
)

// adoption is how the process of an element comes from a runtime.
type adoption struct {
	state   adoptState
	dir     int // of wire.AdoptFile, or -1
	console int // the socket to which the terminal is sent, or -1
}

func (a *adoption) close() {
	closeFD(&a.dir)
	closeFD(&a.console)
}

// stray is a process that was reaped and is of no element. Its runtime may end later
// than it did.
type stray struct {
	pid    int
	status uint32
}

// maxStrays bounds what is remembered while a runtime runs.
const maxStrays = 1024

// keepStray remembers the end of a process that an element may be about to adopt.
func (m *monitor) keepStray(pid int, status uint32) {
	for _, el := range m.elements {
		if el.foreign.state == adoptPending {
			if len(m.strays) < maxStrays {
				m.strays = append(m.strays, stray{pid, status})
			}
			return
		}
	}
	m.strays = m.strays[:0]
}

// takeStray returns the status of a process that was reaped.
func (m *monitor) takeStray(pid int) (status uint32, found bool) {
	for i, s := range m.strays {
		if s.pid == pid {
			m.strays = append(m.strays[:i], m.strays[i+1:]...)
			return s.status, true
		}
	}
	return 0, false
}

// runtimeEnded follows the end of the runtime that el's process was until now.
func (m *monitor) runtimeEnded(el *element, status uint32) {
	m.closeProcess(el)
	if status != 0 && el.refusal.Errno == 0 {
		el.refusal = wire.Error{Errno: uint32(syscall.ECHILD), Reason: wire.ReasonRuntime}
	}
	ended, gone := uint32(0), false
	if el.refusal.Errno == 0 {
		var e syscall.Errno
		if ended, gone, e = m.adoptForeign(el); e != 0 {
			el.refusal = wire.Error{Errno: uint32(e), Reason: wire.ReasonAdopt}
		}
	}
	if el.refusal.Errno != 0 {
		el.kill() // reaped as a stranger
		m.failed(el)
		return
	}
	el.foreign.state = adopted
	el.foreign.close()
	if el.exec {
		el.startedAt = wallNanoseconds()
	}
	if e := m.recordProcess(el); e != 0 {
		el.refusal = wire.Error{Errno: uint32(e), Reason: wire.ReasonRecord}
		el.kill()
		return
	}
	if el.exec {
		m.step(el, wire.StateRunning, wire.TypeRunning)
	} else {
		m.step(el, wire.StateHeld, wire.TypeHeld)
	}
	if gone {
		m.ended(el, ended)
	}
}

// adoptForeign takes over what the runtime has left. gone says that the process has
// ended already, with status.
func (m *monitor) adoptForeign(el *element) (status uint32, gone bool, e syscall.Errno) {
	if el.pid, e = m.readPID(el.foreign.dir); e != 0 {
		return 0, false, e
	}
	if el.foreign.console >= 0 {
		pty, e := m.receiveTerminal(el.foreign.console)
		if e != 0 {
			return 0, false, e
		}
		m.adoptPty(el, pty)
	}
	if !child(el.pid) {
		if status, gone = m.takeStray(el.pid); !gone {
			return 0, false, syscall.ECHILD
		}
		return status, true, 0
	}
	// As long as it is not reaped, the pid is nobody else's.
	fd, _, e := syscall.RawSyscall(sysPidfdOpen, uintptr(el.pid), 0, 0)
	if e != 0 {
		return 0, false, e
	}
	el.pidfd, el.startTicks = int(fd), m.ticksOf(el.pid)
	return 0, false, 0
}

// releaseForeign notes that el's process begins to run, which whoever asks sees to.
func (m *monitor) releaseForeign(t ticket, el *element, tearDown bool) {
	el.startedAt = wallNanoseconds()
	if e := m.recordProcess(el); e != 0 {
		m.refuse(t, e, wire.ReasonRecord)
		return
	}
	el.asker = t
	el.addWaiter(t)
	t.conn.promised = t.conn.promised || tearDown
	m.step(el, wire.StateRunning, wire.TypeRunning)
}

// readPID reads the file that a runtime has written, which is a number.
func (m *monitor) readPID(dir int) (int, syscall.Errno) {
	fd, err := syscall.Openat(dir, wire.AdoptFile, syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0, errno(err)
	}
	n, e := read(fd, m.reply[:16])
	closeIt(fd)
	if e != 0 {
		return 0, e
	}
	pid := 0
	for i, c := range m.reply[:n] {
		switch {
		case c >= '0' && c <= '9' && pid < 1<<27:
			pid = 10*pid + int(c-'0')
		case c == '\n' && i == n-1:
		default:
			return 0, syscall.EINVAL
		}
	}
	if pid <= 1 {
		return 0, syscall.EINVAL
	}
	return pid, 0
}

// receiveTerminal takes the terminal that a runtime has sent before it ended
// (--console-socket).
func (m *monitor) receiveTerminal(listener int) (int, syscall.Errno) {
	conn, e := accept(listener)
	if e != 0 {
		return -1, e
	}
	defer closeIt(conn)
	_, size, truncated, e := receive(conn, m.reply[:1024], m.control)
	if e != 0 {
		return -1, e
	}
	fds := m.received(m.control[:size])
	if len(fds) != 1 || truncated {
		closeAll(fds)
		return -1, syscall.EBADMSG
	}
	return fds[0], 0
}

// child says whether a process is a child of the monitor that was not reaped.
func child(pid int) bool {
	const pPID = 1 // P_PID of waitid(2)
	var info [128]byte
	_, _, e := syscall.RawSyscall6(syscall.SYS_WAITID, pPID, uintptr(pid), uintptr(unsafe.Pointer(&info)), syscall.WNOHANG|syscall.WNOWAIT|syscall.WEXITED|syscall.WALL, 0, 0)
	return e == 0
}
