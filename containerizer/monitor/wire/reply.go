package wire

// Reason says what an Error frame's errno is about.
type Reason uint8

// Reasons of an error.
const (
	ReasonFrame     Reason = 1 + iota // the frame was malformed or out of place
	ReasonNoElement                   // no container of that name, or it has no process
	ReasonExists                      // a container of that name is alive
	ReasonState                       // not possible in the container's present state
	ReasonProgram                     // the launch program was refused
	ReasonStdio                       // pipes or terminal
	ReasonLog                         // the log file
	ReasonRecord                      // the process record
	ReasonSpawn                       // the process could not be made
	ReasonLimit                       // too many connections, sessions, containers or descriptors
	ReasonNamespace                   // a namespace could not be opened
	ReasonSignal                      // the kernel refused the signal
	ReasonBusy                        // processes live
	ReasonRuntime                     // the OCI runtime failed
	ReasonAdopt                       // what the OCI runtime made could not be taken over
)

// Error refuses a request. Errno is of the system call that failed, or the one
// that fits best.
type Error struct {
	Errno  uint32
	Reason Reason
}

// Append implements [Body].
func (m Error) Append(b []byte) []byte { return append(put(b, uint64(m.Errno), 4), byte(m.Reason)) }

// ParseError is the inverse of Append.
func ParseError(body []byte) (m Error, err error) {
	c := cursor{b: body}
	m.Errno, m.Reason = c.u32(), Reason(c.u8())
	return m, c.done("error")
}

// Process says that a process exists: the body of Barrier, Held and Running.
type Process struct {
	PID uint32
	// StartTicks is the process's start time in clock ticks since boot (field 22 of
	// /proc/PID/stat), which tells it from a later one with the same pid.
	StartTicks uint64
	// StartedAt is when execve was done, in nanoseconds since 1970; 0 before.
	StartedAt uint64
}

// Append implements [Body].
func (m Process) Append(b []byte) []byte {
	return put(put(put(b, uint64(m.PID), 4), m.StartTicks, 8), m.StartedAt, 8)
}

// ParseProcess is the inverse of Append.
func ParseProcess(body []byte) (m Process, err error) {
	c := cursor{b: body}
	m.PID, m.StartTicks, m.StartedAt = c.u32(), c.u64(), c.u64()
	return m, c.done("process")
}

// Failed says which operation of a launch program failed, and why. Nothing is
// left of the launch when it is sent.
type Failed struct {
	Op    uint32
	Errno uint32
}

// Append implements [Body].
func (m Failed) Append(b []byte) []byte { return put(put(b, uint64(m.Op), 4), uint64(m.Errno), 4) }

// ParseFailed is the inverse of Append.
func ParseFailed(body []byte) (m Failed, err error) {
	c := cursor{b: body}
	m.Op, m.Errno = c.u32(), c.u32()
	return m, c.done("failed")
}

// Exited says how a process ended.
type Exited struct {
	// WaitStatus is the raw status of wait(2).
	WaitStatus uint32
	// FinishedAt is in nanoseconds since 1970.
	FinishedAt uint64
	// LogLost counts bytes that could not be written to the log.
	LogLost uint64
}

// Append implements [Body].
func (m Exited) Append(b []byte) []byte {
	return put(put(put(b, uint64(m.WaitStatus), 4), m.FinishedAt, 8), m.LogLost, 8)
}

// ParseExited is the inverse of Append.
func ParseExited(body []byte) (m Exited, err error) {
	c := cursor{b: body}
	m.WaitStatus, m.FinishedAt, m.LogLost = c.u32(), c.u64(), c.u64()
	return m, c.done("exited")
}

// State of an element.
type State uint8

// States of an element.
const (
	StateStarting State = 1 + iota
	StateBarrier
	StateHeld
	StateRunning
	StateExited     // its output is still open
	StateNamespaces // no process, namespaces are held
)

// Element is one container or exec session of a monitor.
type Element struct {
	Process
	State    State
	Exec     uint8
	Sessions uint16
	LogLost  uint64
	Name     []byte
}

// Append implements [Body].
func (m Element) Append(b []byte) []byte {
	b = m.Process.Append(b)
	b = append(b, byte(m.State), m.Exec)
	b = put(b, uint64(m.Sessions), 2)
	b = put(b, m.LogLost, 8)
	return putText(b, m.Name)
}

// ParseElement is the inverse of Append. The name aliases body.
func ParseElement(body []byte) (m Element, err error) {
	c := cursor{b: body}
	m.PID, m.StartTicks, m.StartedAt = c.u32(), c.u64(), c.u64()
	m.State, m.Exec, m.Sessions = State(c.u8()), c.u8(), c.u16()
	m.LogLost, m.Name = c.u64(), c.text(MaxName)
	return m, c.done("element")
}

// MaxNamespaces is how many kinds of namespaces there are.
const MaxNamespaces = 8

// HeldNamespace is a namespace that the monitor holds: /proc/MONITOR/fd/FD opens it.
type HeldNamespace struct {
	Kind NamespaceSet
	FD   uint32
}

// Namespaces lists what HoldNamespaces opened. The same descriptors come with it
// as SCM_RIGHTS, in the same order.
type Namespaces struct{ Held []HeldNamespace }

// Append implements [Body].
func (m Namespaces) Append(b []byte) []byte {
	b = append(b, byte(len(m.Held)))
	for _, n := range m.Held {
		b = put(put(b, uint64(n.Kind), 8), uint64(n.FD), 4)
	}
	return b
}

// ParseNamespaces is the inverse of Append.
func ParseNamespaces(body []byte) (m Namespaces, err error) {
	c := cursor{b: body}
	n := int(c.u8())
	if n > MaxNamespaces {
		return m, FormatError("more namespaces than there are kinds")
	}
	for range n {
		m.Held = append(m.Held, HeldNamespace{Kind: NamespaceSet(c.u64()), FD: c.u32()})
	}
	return m, c.done("namespaces")
}
