package monitor

import (
	"syscall"

	"github.com/berth-dev/berth/containerizer/monitor/internal/logfile"
	"github.com/berth-dev/berth/containerizer/monitor/internal/offheap"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

const (
	maxConns    = 64
	maxElements = 1024
	maxSessions = 256 // of one connection

	// quiet is how long nothing must happen before memory is given back.
	quiet = 1000 // milliseconds
	// patience is how long the end of a monitor waits for clients to take what is
	// theirs and for killed processes to go.
	patience = 2e9 // nanoseconds
)

// monitor is everything that a monitor knows. One goroutine uses it.
type monitor struct {
	poll    int
	watches []watch // by descriptor
	serial  uint32

	// dir is the home: where the listener's socket is; -1 until it is known.
	dir, listener, null int

	conns    []*conn
	elements []*element
	pools

	// rootLaunched says that a container is or was there; rootEnded that the root is
	// not any more.
	root                    string
	rootLaunched, rootEnded bool

	// end is how the monitor is about to end, by the time endAt at the latest.
	end   ending
	endAt int64
	over  bool

	buffers
	startTicks uint64 // of the monitor
	strays     []stray
	spent      int  // launches and the like since the last garbage collection
	dirty      bool // something happened since the last trim
}

// buffers are shared by everything that happens, one thing at a time.
type buffers struct {
	frame   []byte // received
	control []byte // received beside the frame
	reply   []byte // being sent, and what is built otherwise
	chunk   []byte // of output
	log     *logfile.Buffer
	// descriptors are those received with a frame, inputs those of a launch.
	descriptors, inputs []int
	events              [16]syscall.EpollEvent
}

// Run is the life of a monitor. It returns when there is nothing left to watch,
// after which the process exits with the status, or does not return but becomes
// the exit command.
func Run() (status int) {
	m, e := newMonitor()
	if e != 0 {
		return int(e)
	}
	for !m.over {
		n := m.wait()
		for i := range n {
			m.dispatch(&m.events[i])
		}
		m.checkDeadlines()
		m.dropBroken()
		m.settle()
		m.collect(4 * garbageLimit)
	}
	return m.finish()
}

func newMonitor() (*monitor, syscall.Errno) {
	// Until its execve a container's process shares this memory, and a process in the
	// namespaces it has joined must not reach into it (ptrace(2), "Ptrace access mode
	// checking").
	if e := prctl(prSetDumpable, 0); e != 0 {
		return nil, e
	}
	// Set by the client for the start of the Go runtime; the container's processes
	// would inherit it.
	_ = prctl(prSetTHPDisable, 0) // unknown to kernels without huge pages
	if e := prctl(prSetChildSubreaper, 1); e != 0 {
		return nil, e
	}
	// Whatever the client's surroundings left open would stay so as long as the
	// container.
	if e := closeFrom(wire.ConnFD + 1); e != 0 {
		return nil, e
	}
	m := newInstance()
	m.dir, m.listener = -1, -1
	poll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, errno(err)
	}
	m.poll = poll
	event, e := eventfd()
	if e != 0 {
		return nil, e
	}
	catchSignals(event)
	m.frame = offheap.Alloc(wire.MaxFrame)
	m.control = offheap.Alloc(4096)
	m.reply = offheap.Alloc(16 << 10)
	m.chunk = offheap.Alloc(wire.MaxData)
	m.log = logfile.NewBuffer()
	if m.frame == nil || m.control == nil || m.reply == nil || m.chunk == nil {
		return nil, syscall.ENOMEM
	}
	syscall.CloseOnExec(wire.ConnFD)
	if err := syscall.SetNonblock(wire.ConnFD, true); err != nil {
		return nil, errno(err)
	}
	if e := m.watch(event, syscall.EPOLLIN, watch{kind: watchWake}); e != 0 {
		return nil, e
	}
	if !m.addConn(wire.ConnFD) {
		return nil, syscall.ENOTSOCK
	}
	return m, 0
}
