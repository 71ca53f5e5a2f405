package monitor

import (
	"syscall"

	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// ending is how a monitor is about to end.
type ending uint8

const (
	endNot ending = iota
	// endShutdown: a client has taken care of everything.
	endShutdown
	// endTearDown: nobody has, so the exit command will.
	endTearDown
)

// shutdown ends the monitor for a client.
func (m *monitor) shutdown(t ticket, flags uint16) {
	for _, el := range m.elements {
		if el.alive() && flags&wire.ShutdownForce == 0 {
			m.refuse(t, syscall.EBUSY, wire.ReasonBusy)
			return
		}
	}
	m.tell(t, wire.TypeOK, nil)
	m.begin(endShutdown)
}

// begin begins the end: no new clients, no processes any more.
func (m *monitor) begin(e ending) {
	if m.end == endNot {
		m.endAt = monotonic() + patience
		m.closeListener()
	}
	m.end = e
	for _, el := range m.elements {
		el.kill()
	}
}

// settle decides whether the monitor is still needed.
func (m *monitor) settle() {
	switch {
	case m.end != endNot:
	case m.rootEnded && !m.promised():
		m.begin(endTearDown)
	case len(m.elements) == 0 && len(m.conns) == 0:
		// The client has died before it launched anything, or after a launch that failed.
		m.begin(endTearDown)
	}
	if m.end != endNot && (m.settled() || monotonic() >= m.endAt) {
		m.over = true
	}
}

// promised says whether a client that will tear down the root is there.
func (m *monitor) promised() bool {
	for _, c := range m.conns {
		if c.promised {
			return true
		}
	}
	return false
}

// settled says that no process is left and every client has what is its due. The
// output of an ended process that others hold open is waited for only if somebody
// reads it.
func (m *monitor) settled() bool {
	for _, el := range m.elements {
		unread := m.end == endShutdown || len(el.sessions) == 0
		if el.alive() || el.state == wire.StateExited && !unread {
			return false
		}
	}
	for _, c := range m.conns {
		if c.queue.b != nil {
			return false
		}
	}
	return true
}

// finish ends the process, or makes it the exit command.
func (m *monitor) finish() int {
	m.closeListener()
	if m.end != endTearDown {
		// The client waits for the end of the connection, and need not wait for that of
		// our memory, which the kernel takes down first.
		_ = closeFrom(wire.ConnFD + 1)
		closeIt(wire.ConnFD)
		return 0
	}
	if m.dir < 0 {
		return 0 // of a container that never began, there is nothing to tear down
	}
	argv := arguments()
	if len(argv) < 2 {
		return 0
	}
	// What is left of our children is the business of whoever reaps orphans.
	_ = prctl(prSetChildSubreaper, 0) // cannot fail
	_ = prctl(prSetDumpable, 1)       // likewise; execve sets it as well
	return int(errno(syscall.Exec(argv[1], argv[1:], environment())))
}

// arguments are those of the process. Package os, which has them, would cost
// memory.
func arguments() (argv []string) {
	text, _ := readAll("/proc/self/cmdline") // whole, or nothing can be executed
	for len(text) > 1 && text[len(text)-2] == 0 {
		text = text[:len(text)-1] // the room that setLate did not need
	}
	for start, i := 0, 0; i < len(text); i++ {
		if text[i] == 0 {
			argv = append(argv, string(text[start:i]))
			start = i + 1
		}
	}
	return argv
}

// environment is what the exit command gets.
func environment() (env []string) {
	for _, e := range syscall.Environ() {
		if e != wire.EnvOneP && e != wire.EnvNoGC {
			env = append(env, e)
		}
	}
	return env
}
