package monitor

import (
	"slices"
	"syscall"

	"github.com/berth-dev/berth/containerizer/launch/interp"
	"github.com/berth-dev/berth/containerizer/launch/program"
	"github.com/berth-dev/berth/containerizer/monitor/internal/logfile"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// element is one container or exec session.
//
//	starting ──> barrier ──> starting ──> held ──> starting ──> running ──> exited ──> (removed)
//	    │            │                      │          │
//	    │            └───> namespaces <─────┘          │
//	    └────────────────> (removed) <─────────────────┘
//
// An element is starting while its program runs, and any of the steps in between
// may be missing. It is removed when its launch failed, or when it has exited and
// its output has ended.
type element struct {
	name  string
	exec  bool
	state wire.State
	stdio wire.StdioMode

	image      *interp.Image
	child      *interp.Child
	pid        int
	pidfd      int // -1 once reaped
	startTicks uint64
	startedAt  uint64
	record     int         // directory of the records, or -1
	foreign    adoption    // how a runtime makes the process
	size       wire.Resize // for a terminal that is still to come

	owner   *conn    // the client that launched it, while it is there
	asker   ticket   // who is told of the next step of the launch
	waiters []ticket // who is told of the end; the asker is one of them
	// waiterRoom is where waiters begins.
	waiterRoom [2]ticket

	log      logfile.Writer
	logged   bool // there is a log
	out      [2]output
	in       input
	paused   bool // output is not read: a client is behind
	sessions []*session

	failure program.Failure // of the program
	refusal wire.Error      // or what else went wrong
	ending  ticket          // HoldNamespaces that ends the process
	held    [wire.MaxNamespaces]int

	status     uint32
	finishedAt uint64
	drainUntil int64 // when to give up on output after the exit
}

// output is the monitor's end of a pipe, or of the terminal.
type output struct {
	fd  int // -1 when there is none, or it has ended
	pty bool
	hup bool // terminal that no process has open at present
}

func (el *element) process() wire.Process {
	return wire.Process{PID: uint32(el.pid), StartTicks: el.startTicks, StartedAt: el.startedAt}
}

func (el *element) exited() wire.Exited {
	return wire.Exited{WaitStatus: el.status, FinishedAt: el.finishedAt, LogLost: el.logLost()}
}

func (el *element) logLost() uint64 {
	if !el.logged {
		return 0
	}
	return el.log.Lost
}

func (el *element) addWaiter(t ticket) {
	if !slices.Contains(el.waiters, t) {
		el.waiters = append(el.waiters, t)
	}
}

// forget removes a client from those that are told.
func (el *element) forget(c *conn) {
	kept := el.waiters[:0]
	for _, w := range el.waiters {
		if w.conn != c {
			kept = append(kept, w)
		}
	}
	el.waiters = kept
	if el.asker.conn == c {
		el.asker = ticket{}
	}
	if el.ending.conn == c {
		el.ending.conn = nil
	}
}

// alive says whether el has a process.
func (el *element) alive() bool {
	return el.state != wire.StateExited && el.state != wire.StateNamespaces
}

// open says whether output may still come.
func (el *element) open() bool { return el.out[0].fd >= 0 || el.out[1].fd >= 0 }

// attachable says whether el has streams of the monitor's.
func (el *element) attachable() bool {
	return el.stdio == wire.StdioPipes || el.stdio == wire.StdioPty
}

// expectsPty says whether the terminal is still to come.
func (el *element) expectsPty() bool {
	return el.stdio == wire.StdioPty && !el.out[0].pty && el.startedAt == 0 && el.alive()
}

// tellAll answers everybody who waits for el.
func (m *monitor) tellAll(el *element, kind wire.Type, body []byte) {
	for _, t := range el.waiters {
		m.tell(t, kind, body)
	}
	el.waiters = el.waiters[:0]
	el.asker = ticket{}
}

// remove forgets el and closes what it has.
func (m *monitor) remove(el *element) {
	m.endOutput(el)
	for len(el.sessions) > 0 {
		m.endSession(el.sessions[len(el.sessions)-1])
	}
	m.closeProcess(el)
	m.closeStdin(el)
	for i := range el.out {
		m.closeOutput(el, i)
	}
	if el.logged {
		el.log.Close()
		el.logged = false
	}
	closeFD(&el.record)
	el.foreign.close()
	el.closeNamespaces()
	for i, other := range m.elements {
		if other == el {
			m.elements = append(m.elements[:i], m.elements[i+1:]...)
			m.freeElements = append(m.freeElements, el)
			break
		}
	}
}

// closeProcess closes what belongs to the process and its program.
func (m *monitor) closeProcess(el *element) {
	m.closeProgram(el)
	closeFD(&el.pidfd)
}

// closeProgram closes what was needed until the execve.
func (m *monitor) closeProgram(el *element) {
	if el.child != nil {
		m.unwatch(el.child.ProgressFD())
		_ = el.child.Close() // descriptors only
		el.child = nil
	}
	if el.image != nil {
		_ = el.image.Close() // cannot fail
		el.image = nil
	}
}

func (el *element) closeNamespaces() {
	for i := range el.held {
		closeFD(&el.held[i])
	}
}

// kill ends the process of el.
func (el *element) kill() {
	if el.pidfd >= 0 {
		_ = signalProcess(el.pidfd, uint8(syscall.SIGKILL)) // fails only when it has ended
	}
}
