package wire

import "slices"

// LaunchFlags of a launch.
type LaunchFlags uint32

const (
	// LaunchHold says that the program holds before its execve; the reply is Held.
	LaunchHold LaunchFlags = 1 << iota
	// LaunchExec is an additional process in a container: nothing of it is recorded,
	// and when it ends nothing is torn down.
	LaunchExec
	// LaunchTearDown promises that this client tears the root down when it has
	// exited. While the connection stands, the monitor leaves it to the client.
	LaunchTearDown
	// LaunchRecord sends a descriptor of the directory for the process and exit records.
	LaunchRecord
	// LaunchAdopt says that the program executes an OCI runtime, which makes the process
	// and ends: the element's process is then the one whose pid the runtime has left in
	// the file AdoptFile of the directory that is sent. It is held, or runs with
	// LaunchExec; Release tells the monitor that it begins to run. With StdioPty the
	// runtime has sent the terminal to a listening socket that is sent as well.
	LaunchAdopt
)

// AdoptFile is where a runtime leaves the pid of what it has made.
const AdoptFile = "pid"

// SessionFlags choose what a session is connected to.
type SessionFlags uint16

// Flags of a session.
const (
	SessionStdin SessionFlags = 1 << iota
	SessionStdout
	SessionStderr
	// SessionPause holds up the process's output when the client does not keep up,
	// instead of dropping the session.
	SessionPause

	sessionStreams = SessionStdin | SessionStdout | SessionStderr
)

// Streams is f without the flags that are no streams.
func (f SessionFlags) Streams() SessionFlags { return f & sessionStreams }

// StdioMode says what a process's descriptors 0, 1 and 2 are.
type StdioMode uint8

const (
	// StdioPipes are pipes of the monitor.
	StdioPipes StdioMode = iota
	// StdioPty is a pseudo terminal that the program opens.
	StdioPty
	// StdioPassthrough are the first three extra descriptors of the launch.
	StdioPassthrough
	// StdioNull is /dev/null.
	StdioNull
	stdioModes
)

// StdinMode says where standard input comes from with StdioPipes and StdioPty.
type StdinMode uint8

const (
	// StdinNull is /dev/null; with a pty, nothing is ever typed.
	StdinNull StdinMode = iota
	// StdinOpen stays open whoever attaches and leaves.
	StdinOpen
	// StdinOnce is closed when the first session that was connected to it ends.
	StdinOnce
	stdinModes
)

// LogDriver says where output goes besides sessions.
type LogDriver uint8

// Log drivers.
const (
	LogNone LogDriver = iota
	// LogFile is a file in the CRI format.
	LogFile
	logDrivers
)

// NoID leaves the owner of pipes as it is.
const NoID = ^uint32(0)

// Launch asks for a process. Its descriptors, in order: the program; with
// LaunchRecord the record directory; with LogFile the directory of the log file; with
// LaunchAdopt the directory of AdoptFile, and with StdioPty then the console socket;
// the input descriptors of the program after the three of its standard streams
// (with StdioPassthrough the standard streams first).
type Launch struct {
	Flags   LaunchFlags
	Session SessionFlags // attaches this connection from the first byte; 0 does not
	Stdio   StdioMode
	Stdin   StdinMode
	Log     LogDriver
	// ProgramSize is the size of the encoded program in bytes.
	ProgramSize uint32
	// FDs counts the descriptors of this launch, those sent ahead included.
	FDs uint16
	// UID and GID own the pipes, as host ids, so that the process can open
	// /dev/stdout by name.
	UID, GID uint32
	// LogMaxBytes rotates the log before it grows beyond (0: never); LogMaxFiles is
	// how many files are kept, the current one included.
	LogMaxBytes uint64
	LogMaxFiles uint16
	Name        []byte
	LogName     []byte
}

// Append implements [Body].
func (m Launch) Append(b []byte) []byte {
	b = put(b, uint64(m.Flags), 4)
	b = put(b, uint64(m.Session), 2)
	b = append(b, byte(m.Stdio), byte(m.Stdin), byte(m.Log))
	b = put(b, uint64(m.ProgramSize), 4)
	b = put(b, uint64(m.FDs), 2)
	b = put(b, uint64(m.UID), 4)
	b = put(b, uint64(m.GID), 4)
	b = put(b, m.LogMaxBytes, 8)
	b = put(b, uint64(m.LogMaxFiles), 2)
	b = putText(b, m.Name)
	return putText(b, m.LogName)
}

// ParseLaunch is the inverse of Append. The names alias body.
func ParseLaunch(body []byte) (m Launch, err error) {
	c := cursor{b: body}
	m.Flags, m.Session = LaunchFlags(c.u32()), SessionFlags(c.u16())
	m.Stdio, m.Stdin, m.Log = StdioMode(c.u8()), StdinMode(c.u8()), LogDriver(c.u8())
	m.ProgramSize, m.FDs = c.u32(), c.u16()
	m.UID, m.GID = c.u32(), c.u32()
	m.LogMaxBytes, m.LogMaxFiles = c.u64(), c.u16()
	m.Name, m.LogName = c.text(MaxName), c.text(255)
	if err := c.done("launch"); err != nil {
		return m, err
	}
	return m, m.check()
}

func (m *Launch) check() error {
	switch {
	case len(m.Name) == 0:
		return FormatError("launch without a name")
	case m.Stdio >= stdioModes || m.Stdin >= stdinModes || m.Log >= logDrivers:
		return FormatError("launch with an unknown stdio, stdin or log mode")
	case int(m.FDs) < m.fixedFDs() || m.FDs > MaxLaunchFDs:
		return FormatError("launch with too few or too many descriptors")
	case m.Log == LogFile && !isFileName(m.LogName):
		return FormatError("launch with a log name that is no file name")
	case m.LogMaxBytes > 1<<62:
		return FormatError("launch with a log size that is no size")
	}
	return nil
}

// fixedFDs is how many descriptors the flags and modes of m call for.
func (m *Launch) fixedFDs() int {
	n := 1
	if m.Flags&LaunchRecord != 0 {
		n++
	}
	if m.Log == LogFile {
		n++
	}
	if m.Stdio == StdioPassthrough {
		n += 3
	}
	if m.Flags&LaunchAdopt != 0 {
		n++
		if m.Stdio == StdioPty {
			n++
		}
	}
	return n
}

func isFileName(s []byte) bool {
	return len(s) > 0 && !slices.Contains(s, '/') && string(s) != "." && string(s) != ".."
}

// Name is the body of the requests that need nothing but the element: Wait,
// ReopenLog; and of Attach, whose frame flags are [SessionFlags], and Release,
// whose frame flags may be ReleaseTearDown.
type Name []byte

// ReleaseTearDown is LaunchTearDown for a container that was held.
const ReleaseTearDown = 1

// Append implements [Body].
func (m Name) Append(b []byte) []byte { return putText(b, m) }

// ParseName is the inverse of Append.
func ParseName(body []byte) (Name, error) {
	c := cursor{b: body}
	m := c.text(MaxName)
	if err := c.done("a request"); err != nil {
		return nil, err
	}
	if len(m) == 0 {
		return nil, FormatError("a request without a name")
	}
	return m, nil
}

// Signal sends a signal to the process of an element.
type Signal struct {
	Signal uint8
	Name   []byte
}

// Append implements [Body].
func (m Signal) Append(b []byte) []byte { return putText(append(b, m.Signal), m.Name) }

// ParseSignal is the inverse of Append.
func ParseSignal(body []byte) (m Signal, err error) {
	c := cursor{b: body}
	m.Signal = c.u8()
	m.Name, err = ParseName(c.b)
	if err == nil && (m.Signal == 0 || m.Signal > 64) {
		err = FormatError("a signal number is out of range")
	}
	return m, err
}

// Resize sets the size of a session's terminal.
type Resize struct{ Columns, Rows uint16 }

// Append implements [Body].
func (m Resize) Append(b []byte) []byte {
	return put(put(b, uint64(m.Columns), 2), uint64(m.Rows), 2)
}

// ParseResize is the inverse of Append.
func ParseResize(body []byte) (m Resize, err error) {
	c := cursor{b: body}
	m.Columns, m.Rows = c.u16(), c.u16()
	return m, c.done("resize")
}

// Ack gives back Bytes of a session's window.
type Ack struct{ Bytes uint32 }

// Append implements [Body].
func (m Ack) Append(b []byte) []byte { return put(b, uint64(m.Bytes), 4) }

// ParseAck is the inverse of Append.
func ParseAck(body []byte) (m Ack, err error) {
	c := cursor{b: body}
	m.Bytes = c.u32()
	return m, c.done("ack")
}

// NamespaceSet is a set of kinds of namespaces, as the CLONE_NEW* flags of clone(2).
type NamespaceSet uint64

// HoldNamespaces keeps namespaces of an element's process open in the monitor.
// With End the process, which must be at the barrier or held, is ended; the
// element lives on as its namespaces.
type HoldNamespaces struct {
	Kinds NamespaceSet
	End   uint8
	Name  []byte
}

// Append implements [Body].
func (m HoldNamespaces) Append(b []byte) []byte {
	return putText(append(put(b, uint64(m.Kinds), 8), m.End), m.Name)
}

// ParseHoldNamespaces is the inverse of Append.
func ParseHoldNamespaces(body []byte) (m HoldNamespaces, err error) {
	c := cursor{b: body}
	m.Kinds, m.End = NamespaceSet(c.u64()), c.u8()
	m.Name, err = ParseName(c.b)
	return m, err
}

// ShutdownForce in the flags of a Shutdown frame ends living processes.
const ShutdownForce = 1
