package client

import (
	"context"
	"fmt"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// LaunchRequest asks for a process. Descriptors stay the caller's and may be
// closed when Launch has returned.
type LaunchRequest struct {
	// Name of the element: as a rule the container's id.
	Name string
	// Program is a memfd that begins with the encoded program of ProgramSize bytes.
	Program, ProgramSize int
	// Files are the program's input descriptors after those of its standard streams;
	// with wire.StdioPassthrough the standard streams come first.
	Files []int
	// Record is a descriptor of the directory for the process and exit records; nil
	// keeps none.
	Record *int
	Stdio  wire.StdioMode
	Stdin  wire.StdinMode
	// IO attaches the caller from the first byte of output. When it does not keep up,
	// the process waits.
	IO  *containerizer.IO
	Log *Log
	// UID and GID own the pipes, as ids of the host; nil leaves the monitor's.
	UID, GID *uint32
	// Hold says that the program holds before its execve.
	Hold bool
	// Adopt says that the program executes an OCI runtime (wire.LaunchAdopt).
	Adopt *Adopt
	// Exec is an additional process: it is not recorded and its end ends nothing.
	Exec     bool
	TearDown TearDown
}

// TearDown promises to tear the root down once it has ended: while the client is
// connected, the monitor does not run its exit command.
type TearDown bool

// Adopt are descriptors of where a runtime leaves what it has made: the directory of
// wire.AdoptFile and, with a terminal, the listening console socket.
type Adopt struct{ Dir, Console int }

// Log is a log file.
type Log struct {
	// Dir is a descriptor of the directory, Name a file in it.
	Dir  int
	Name string
	// MaxBytes and MaxFiles as in containerizer.LogConfig.
	MaxBytes int64
	MaxFiles int
}

// Process is a process that this client has launched or released.
type Process struct {
	Name string
	// State is StateBarrier, StateHeld or StateRunning: how far it has come.
	State      wire.State
	PID        int
	StartTicks uint64
	StartedAt  time.Time // zero before its execve

	client  *Client
	tag     uint32
	call    *call
	session *Session
}

// Launch makes a process and returns when it runs, or waits at its barrier or
// hold. A failed operation of the program is a *ProgramError.
func (c *Client) Launch(ctx context.Context, r *LaunchRequest) (*Process, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	m, fds := r.message()
	var s *Session
	if r.IO != nil {
		s = newSession(c, r.IO)
		m.Session = s.flags | wire.SessionPause
	}
	return c.launch(ctx, r.Name, wire.TypeLaunch, 0, m, fds, s)
}

// Release lets a process that is at the barrier or held go on, and returns when
// it runs or waits again.
func (c *Client) Release(ctx context.Context, name string, tearDown TearDown) (*Process, error) {
	var flags uint16
	if tearDown {
		flags = wire.ReleaseTearDown
	}
	return c.launch(ctx, name, wire.TypeRelease, flags, wire.Name(name), nil, nil)
}

func (c *Client) launch(ctx context.Context, name string, kind wire.Type, flags uint16, body wire.Body, fds []int, s *Session) (*Process, error) {
	tag, k, err := c.open(4, s)
	if err != nil {
		return nil, err
	}
	p := &Process{Name: name, client: c, tag: tag, call: k, session: s}
	err = c.send(wire.Header{Type: kind, Flags: flags, Tag: tag}, body, fds...)
	if err == nil {
		if s != nil {
			s.start() // not before: its input would come to nobody
		}
		err = p.step(ctx)
	}
	if err != nil {
		c.forget(tag)
		if s != nil {
			s.end(err)
		}
		return nil, about(name, err)
	}
	return p, nil
}

// step takes the answer that says how far the process has come.
func (p *Process) step(ctx context.Context) error {
	r, err := p.client.next(ctx, p.call)
	if err != nil {
		return err
	}
	switch r.kind {
	case wire.TypeBarrier:
		p.State = wire.StateBarrier
	case wire.TypeHeld:
		p.State = wire.StateHeld
	case wire.TypeRunning:
		p.State = wire.StateRunning
	case wire.TypeFailed:
		return programError(r.body)
	default:
		return unexpected(r.kind)
	}
	m, err := wire.ParseProcess(r.body)
	p.PID, p.StartTicks, p.StartedAt = int(m.PID), m.StartTicks, moment(m.StartedAt)
	return err
}

// Session is that of LaunchRequest.IO, or nil.
func (p *Process) Session() *Session { return p.session }

// Wait returns how the process ended, once it has.
func (p *Process) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-p.call.over:
	case <-ctx.Done():
		return Exit{}, ctx.Err()
	}
	switch r := p.call.final; r.kind {
	case wire.TypeExited:
		return exit(r.body)
	case wire.TypeFailed:
		return Exit{}, about(p.Name, programError(r.body))
	case wire.TypeError:
		return Exit{}, about(p.Name, refusal(r.body))
	default:
		return Exit{}, about(p.Name, p.client.failure())
	}
}

// message encodes r, and lists its descriptors in the order of wire.Launch.
func (r *LaunchRequest) message() (wire.Launch, []int) {
	m := wire.Launch{
		Stdio: r.Stdio, Stdin: r.Stdin, ProgramSize: uint32(r.ProgramSize), UID: wire.NoID, GID: wire.NoID,
		Name: []byte(r.Name),
	}
	fds := append(make([]int, 0, 3+len(r.Files)), r.Program)
	for i, set := range [...]bool{r.Hold, r.Exec, bool(r.TearDown)} {
		if set {
			m.Flags |= [...]wire.LaunchFlags{wire.LaunchHold, wire.LaunchExec, wire.LaunchTearDown}[i]
		}
	}
	if r.Record != nil {
		m.Flags |= wire.LaunchRecord
		fds = append(fds, *r.Record)
	}
	if r.UID != nil {
		m.UID = *r.UID
	}
	if r.GID != nil {
		m.GID = *r.GID
	}
	if l := r.Log; l != nil {
		m.Log, m.LogName = wire.LogFile, []byte(l.Name)
		m.LogMaxBytes, m.LogMaxFiles = uint64(max(l.MaxBytes, 0)), uint16(min(max(l.MaxFiles, 0), 1<<16-1))
		fds = append(fds, l.Dir)
	}
	if a := r.Adopt; a != nil {
		m.Flags |= wire.LaunchAdopt
		fds = append(fds, a.Dir)
		if r.Stdio == wire.StdioPty {
			fds = append(fds, a.Console)
		}
	}
	fds = append(fds, r.Files...)
	m.FDs = uint16(min(len(fds), 1<<16-1))
	return m, fds
}

// check says what the monitor would refuse, in more words.
func (r *LaunchRequest) check() error {
	if n := len(r.Name); n == 0 || n > wire.MaxName {
		return fmt.Errorf("launch: name of %d bytes: %w", n, containerizer.ErrInvalid)
	}
	if n := len(r.Files); n > wire.MaxLaunchFDs-3 {
		return fmt.Errorf("launch %q: %d descriptors, at most %d are possible: %w", r.Name, n, wire.MaxLaunchFDs-3, containerizer.ErrInvalid)
	}
	return nil
}
