package monitor

import (
	"github.com/berth-dev/berth/containerizer/launch/interp"
	"github.com/berth-dev/berth/containerizer/monitor/record"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// drainTime is how long output may go on after its process has ended, when others
// hold the pipe open.
const drainTime = 2e9 // nanoseconds

// reap waits for every child that has ended: the processes of elements, and
// orphans of theirs that came to us as the subreaper.
func (m *monitor) reap() {
	for {
		pid, status := wait()
		if pid == 0 {
			return
		}
		if el := m.ofProcess(pid); el != nil {
			m.ended(el, status)
		} else {
			m.keepStray(pid, status)
		}
	}
}

// ofProcess is the element of a process, or nil.
func (m *monitor) ofProcess(pid int) *element {
	for _, el := range m.elements {
		if el.pid == pid && el.pidfd >= 0 {
			return el
		}
	}
	return nil
}

// ended follows the end of el's process, which has been reaped.
func (m *monitor) ended(el *element, status uint32) {
	held := el.state == wire.StateHeld || el.state == wire.StateBarrier
	if el.child != nil {
		m.progress(el) // its last news may not have been read yet
	}
	if el.foreign.state == adoptPending && el.child == nil {
		m.runtimeEnded(el, status)
		return
	}
	el.status, el.finishedAt = status, wallNanoseconds() // not before it started
	m.closeProcess(el)
	switch {
	case el.ending != (ticket{}):
		m.namespacesHeld(el)
		return
	case el.refusal.Errno != 0, el.startedAt == 0 && el.foreign.state != adopted && (!held || el.failure.Op != interp.KilledOp):
		m.failed(el)
		return
	}
	el.state = wire.StateExited
	m.drain(el)
	m.publishExit(el)
	m.closeStdin(el)
	if !el.open() {
		m.remove(el)
		return
	}
	el.drainUntil = monotonic() + drainTime
}

// publishExit tells everybody how el's process has ended. Its output is in the
// log by now.
func (m *monitor) publishExit(el *element) {
	// Without the file, the engine sees a process that is gone and a monitor that is
	// not, or knows from a client.
	_ = m.writeRecord(el, record.ExitFile, record.Exit{
		WaitStatus: uint64(el.status), FinishedAt: el.finishedAt, LogLost: el.logLost(),
	}.Append(m.reply[:0]))
	m.tellAll(el, wire.TypeExited, el.exited().Append(m.body()))
	if !el.exec && el.name == m.root {
		m.rootEnded = true
	}
}
