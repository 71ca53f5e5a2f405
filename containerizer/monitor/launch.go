package monitor

import (
	"errors"
	"syscall"
	"unsafe"

	"github.com/berth-dev/berth/containerizer/launch/interp"
	"github.com/berth-dev/berth/containerizer/monitor/record"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// launch makes a process, or answers why not. It uses up the descriptors of the
// request.
func (m *monitor) launch(t ticket, body []byte, fds []int) {
	c := t.conn
	if len(c.fds) > 0 {
		fds = append(c.fds, fds...)
		c.fds = nil
	}
	defer func() { closeAll(fds) }() // what was taken is -1
	r, err := wire.ParseLaunch(body)
	if err != nil || int(r.FDs) != len(fds) {
		m.malformed(t)
		return
	}
	if problem := m.mayLaunch(c, t, &r); problem.Errno != 0 {
		m.tell(t, wire.TypeError, problem.Append(m.body()))
		return
	}
	el := m.newElement()
	el.name, el.state, el.exec = string(r.Name), wire.StateStarting, r.Flags&wire.LaunchExec != 0
	el.owner, el.asker, el.waiters = c, t, append(el.waiters, t)
	el.stdio = r.Stdio
	m.elements = append(m.elements, el)
	m.spent++
	if e, reason := m.prepare(el, &r, fds); e != 0 {
		m.refuse(t, e, reason)
		m.remove(el)
		return
	}
	if r.Session.Streams() != 0 {
		m.addSession(t, el, r.Session)
	}
	if el.child == nil { // an early operation of the program failed
		m.failed(el)
		return
	}
	c.promised = c.promised || r.Flags&wire.LaunchTearDown != 0
	if !el.exec && (!m.rootLaunched || m.root == el.name) {
		m.root, m.rootLaunched, m.rootEnded = el.name, true, false
	}
	if e := m.recordProcess(el); e != 0 {
		el.refusal = wire.Error{Errno: uint32(e), Reason: wire.ReasonRecord}
		el.kill()
	}
}

// mayLaunch says why a launch is out of the question.
func (m *monitor) mayLaunch(c *conn, t ticket, r *wire.Launch) wire.Error {
	streams := r.Session.Streams()
	switch old := m.find(r.Name); {
	case old != nil && old.state == wire.StateExited:
		m.remove(old) // only its output was still open
	case old != nil:
		return wire.Error{Errno: uint32(syscall.EEXIST), Reason: wire.ReasonExists}
	}
	switch {
	case m.dir < 0: // later clients would not find it
		return wire.Error{Errno: uint32(syscall.ENOTDIR), Reason: wire.ReasonState}
	case m.end != endNot:
		return wire.Error{Errno: uint32(syscall.ESHUTDOWN), Reason: wire.ReasonState}
	case len(m.elements) >= maxElements || len(c.sessions) >= maxSessions:
		return wire.Error{Errno: uint32(syscall.EMFILE), Reason: wire.ReasonLimit}
	case streams != 0 && (c.session(t.tag) != nil || r.Stdio == wire.StdioPassthrough || r.Stdio == wire.StdioNull):
		return wire.Error{Errno: uint32(syscall.EINVAL), Reason: wire.ReasonFrame}
	}
	return wire.Error{}
}

// prepare brings el to a running program, or to one that has failed already.
// Descriptors that el keeps are -1 in fds afterwards.
func (m *monitor) prepare(el *element, r *wire.Launch, fds []int) (syscall.Errno, wire.Reason) {
	image, err := interp.Load(fds[0], int(r.ProgramSize))
	if err != nil {
		return programErrno(err), wire.ReasonProgram
	}
	el.image = image
	next := 1
	take := func() (fd int) {
		fd, fds[next] = fds[next], -1
		next++
		return fd
	}
	if r.Flags&wire.LaunchRecord != 0 {
		el.record = take()
		if e := m.clearRecords(el); e != 0 {
			return e, wire.ReasonRecord
		}
	}
	if r.Log == wire.LogFile {
		if err = el.log.Open(take(), string(r.LogName), int64(r.LogMaxBytes), int(r.LogMaxFiles), m.log); err != nil {
			return errno(err), wire.ReasonLog
		}
		el.logged = true
	}
	if r.Flags&wire.LaunchAdopt != 0 {
		el.foreign.state, el.foreign.dir = adoptPending, take()
		if r.Stdio == wire.StdioPty {
			el.foreign.console = take()
		}
	}
	inputs := append(m.inputs[:0], -1, -1, -1)
	theirs, e := m.makeStdio(el, r, inputs)
	if e != 0 {
		closeAll(theirs[:])
		return e, wire.ReasonStdio
	}
	if r.Stdio == wire.StdioPassthrough {
		inputs = inputs[:0]
	}
	inputs = append(inputs, fds[next:]...)
	m.inputs = inputs[:0]
	el.child, err = image.Spawn(inputs)
	closeAll(theirs[:])
	if stage, ok := errors.AsType[*interp.StageError](err); ok {
		el.failure = stage.Failure
		return 0, 0
	}
	if err != nil {
		return programErrno(err), wire.ReasonSpawn
	}
	return m.adopt(el), wire.ReasonSpawn
}

// programErrno is EINVAL for what the interpreter refuses without asking the kernel.
func programErrno(err error) syscall.Errno {
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return e
	}
	return syscall.EINVAL
}

// adopt takes over the process of el.child.
func (m *monitor) adopt(el *element) syscall.Errno {
	el.pid = el.child.PID
	el.pidfd, el.child.PidFD = el.child.PidFD, -1
	el.startTicks = m.ticksOf(el.pid)
	e := m.watch(el.child.ProgressFD(), syscall.EPOLLIN, watch{kind: watchProgress, element: el})
	for i, kind := range [2]watchKind{watchStdout, watchStderr} {
		if fd := el.out[i].fd; fd >= 0 && e == 0 {
			e = m.watch(fd, syscall.EPOLLIN, watch{kind: kind, element: el})
		}
	}
	if el.in.fd >= 0 && e == 0 {
		e = m.watch(el.in.fd, 0, watch{kind: watchStdin, element: el})
	}
	if e != 0 {
		el.kill() // reaped as a stranger
	}
	return e
}

// makeStdio puts the process's standard streams into inputs and keeps the other
// ends. What must be closed after the clone is returned.
func (m *monitor) makeStdio(el *element, r *wire.Launch, inputs []int) (theirs [3]int, e syscall.Errno) {
	theirs = [3]int{-1, -1, -1}
	inputs[0], inputs[1], inputs[2] = m.null, m.null, m.null
	el.in.mode = r.Stdin
	switch r.Stdio {
	case wire.StdioPty:
		if el.foreign.state == adoptNot { // a runtime opens it elsewhere
			inputs[0], inputs[1], inputs[2] = -1, -1, -1
		}
	case wire.StdioPipes:
		if r.Stdin != wire.StdinNull {
			if theirs[0], el.in.fd, e = pipe(r); e != 0 {
				return theirs, e
			}
			inputs[0] = theirs[0]
			e = nonblock(el.in.fd)
		}
		for i := range el.out {
			if e != 0 {
				break
			}
			el.out[i].fd, theirs[i+1], e = pipe(r)
			inputs[i+1] = theirs[i+1]
			if e == 0 {
				e = nonblock(el.out[i].fd)
			}
		}
	case wire.StdioPassthrough, wire.StdioNull:
	}
	return theirs, e
}

// pipe makes a pipe that belongs to the process's user, who may then open
// /dev/stdout.
func pipe(r *wire.Launch) (readEnd, writeEnd int, e syscall.Errno) {
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
		return -1, -1, errno(err)
	}
	if r.UID != wire.NoID || r.GID != wire.NoID {
		if err := syscall.Fchown(p[0], int(int32(r.UID)), int(int32(r.GID))); err != nil {
			closeAll(p[:])
			return -1, -1, errno(err)
		}
	}
	return p[0], p[1], 0
}

func nonblock(fd int) syscall.Errno { return errno(syscall.SetNonblock(fd, true)) }

// progress follows the program of el.
func (m *monitor) progress(el *element) {
	for el.child != nil {
		step, failure := el.child.Progress()
		if el.child.Pty >= 0 {
			m.adoptPty(el, el.child.Pty)
			el.child.Pty = -1
		}
		switch step {
		case interp.ProgressPending:
			return
		case interp.ProgressBarrier:
			m.step(el, wire.StateBarrier, wire.TypeBarrier)
			if el.owner == nil {
				el.kill()
			}
		case interp.ProgressHeld:
			m.step(el, wire.StateHeld, wire.TypeHeld)
		case interp.ProgressRunning:
			if el.foreign.state == adoptPending { // it is the runtime
				m.closeProgram(el)
				return
			}
			el.startedAt = wallNanoseconds()
			if e := m.recordProcess(el); e != 0 {
				el.refusal = wire.Error{Errno: uint32(e), Reason: wire.ReasonRecord}
				el.kill()
				m.closeProgram(el)
				return
			}
			m.step(el, wire.StateRunning, wire.TypeRunning)
			m.closeProgram(el)
		case interp.ProgressFailed:
			el.failure = failure
			m.unwatch(el.child.ProgressFD())
			return // the rest when the process has been reaped
		}
	}
}

// step tells who asked how far the launch has come.
func (m *monitor) step(el *element, state wire.State, kind wire.Type) {
	if m.listener < 0 {
		m.listen() // whoever hears of the process finds the monitor
	}
	el.state = state
	m.tell(el.asker, kind, el.process().Append(m.body()))
	el.asker = ticket{}
}

// adoptPty takes the master of the terminal that the program opened.
func (m *monitor) adoptPty(el *element, fd int) {
	if el.out[0].fd >= 0 || nonblock(fd) != 0 ||
		m.watch(fd, syscall.EPOLLIN, watch{kind: watchPty, element: el}) != 0 {
		closeIt(fd)
		return
	}
	el.out[0] = output{fd: fd, pty: true}
	if el.in.mode != wire.StdinNull {
		el.in.fd = fd
	}
	if el.size != (wire.Resize{}) {
		resize(fd, el.size)
	}
	m.flushStdin(el)
}

// failed ends a launch of which nothing is left.
func (m *monitor) failed(el *element) {
	_ = m.removeRecord(el, record.ProcessFile) // there may be none
	if el.refusal.Errno != 0 {
		m.tellAll(el, wire.TypeError, el.refusal.Append(m.body()))
	} else {
		m.tellAll(el, wire.TypeFailed, wire.Failed{Op: el.failure.Op, Errno: uint32(el.failure.Errno)}.Append(m.body()))
	}
	m.remove(el)
}

// resize sets the size of a terminal.
func resize(fd int, r wire.Resize) {
	size := [4]uint16{r.Rows, r.Columns}
	_ = ioctl(fd, syscall.TIOCSWINSZ, uintptr(unsafe.Pointer(&size))) // a terminal always takes it
}
