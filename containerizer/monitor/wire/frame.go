package wire

import "slices"

// Version of the protocol, in the first byte of every frame.
const Version = 1

// Limits of the protocol.
const (
	HeaderSize = 8
	// MaxFrame is the size of the longest frame, header included.
	MaxFrame = 64 << 10
	// MaxData is the longest body of a data frame.
	MaxData = 32 << 10
	// MaxFDs is how many descriptors may go with one frame (SCM_MAX_FD).
	MaxFDs = 253
	// MaxLaunchFDs is how many a launch may have altogether.
	MaxLaunchFDs = 1024
	// MaxName is the length of the longest element name, which holds a container id
	// of full depth.
	MaxName = 8 << 10
	// StdinWindow is how many bytes a client may have sent to a process without Ack.
	StdinWindow = 64 << 10
	// OutputWindow is how many bytes of output a session may owe an Ack for before it
	// is dropped, and PauseWindow before the output of the process is held up, if the
	// session asked for that.
	OutputWindow = 1 << 20
	PauseWindow  = 256 << 10
)

// Type is the kind of a frame.
type Type uint8

// Frames from client to monitor.
const (
	TypeLaunch Type = 1 + iota
	TypeDescriptors
	TypeRelease
	TypeSignal
	TypeWait
	TypeAttach
	TypeCloseStdin
	TypeResize
	TypeDetach
	TypeReopenLog
	TypeList
	TypeHoldNamespaces
	TypeShutdown
	TypeHome
)

// Frames in both directions. The flags of a data frame are its [Stream].
const (
	TypeData Type = 48 + iota
	TypeAck
)

// Frames from monitor to client.
const (
	TypeOK Type = 64 + iota
	TypeError
	TypeBarrier
	TypeHeld
	TypeRunning
	TypeFailed
	TypeExited
	TypeOutputEnd
	TypeDropped
	TypeStdinClosed
	TypeElement
	TypeNamespaces
)

// Stream is one of a process's standard streams.
type Stream uint16

// The standard streams.
const (
	Stdin Stream = iota
	Stdout
	Stderr
)

// Header begins a frame.
type Header struct {
	Type  Type
	Flags uint16
	Tag   uint32
}

// FormatError says what is wrong with a frame.
type FormatError string

func (e FormatError) Error() string { return "monitor protocol: " + string(e) }

// Put writes h to the first HeaderSize bytes of b.
func (h Header) Put(b []byte) {
	_ = b[HeaderSize-1]
	b[0], b[1] = Version, uint8(h.Type)
	b[2], b[3] = byte(h.Flags), byte(h.Flags>>8)
	b[4], b[5], b[6], b[7] = byte(h.Tag), byte(h.Tag>>8), byte(h.Tag>>16), byte(h.Tag>>24)
}

// Parse splits a frame. The body aliases frame.
func Parse(frame []byte) (h Header, body []byte, err error) {
	if len(frame) < HeaderSize {
		return h, nil, FormatError("a frame is shorter than its header")
	}
	if len(frame) > MaxFrame {
		return h, nil, FormatError("a frame is longer than 64 KiB")
	}
	c := cursor{b: frame[1:]}
	h.Type, h.Flags, h.Tag = Type(c.u8()), c.u16(), c.u32()
	if frame[0] != Version {
		return h, nil, FormatError("unknown version")
	}
	return h, c.b, nil
}

// Body is the content of a frame.
type Body interface {
	// Append appends the encoded content to b.
	Append(b []byte) []byte
}

// Append appends a frame to b. A nil body is an empty one.
func Append(b []byte, h Header, body Body) []byte {
	n := len(b)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	h.Put(b[n:])
	if body == nil {
		return b
	}
	return body.Append(b)
}

// cursor reads fields; after the first that is missing bad is set and all are zero.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if c.bad || len(c.b) < n {
		c.bad = true
		return nil
	}
	p := c.b[:n:n]
	c.b = c.b[n:]
	return p
}

func (c *cursor) number(n int) (v uint64) {
	for i, b := range c.take(n) {
		v |= uint64(b) << (8 * i)
	}
	return v
}

func (c *cursor) u8() uint8   { return uint8(c.number(1)) }
func (c *cursor) u16() uint16 { return uint16(c.number(2)) }
func (c *cursor) u32() uint32 { return uint32(c.number(4)) }
func (c *cursor) u64() uint64 { return c.number(8) }

// text reads a string of at most limit bytes, without NUL.
func (c *cursor) text(limit int) []byte {
	p := c.take(int(c.u16()))
	if len(p) > limit || slices.Contains(p, 0) {
		c.bad = true
		return nil
	}
	return p
}

// done is the error of a body that lacked fields.
func (c *cursor) done(what string) error {
	if c.bad {
		return FormatError(what + " is cut short or holds a bad string")
	}
	return nil
}

func put(b []byte, v uint64, n int) []byte {
	for range n {
		b = append(b, byte(v))
		v >>= 8
	}
	return b
}

func putText(b, s []byte) []byte {
	return append(put(b, uint64(len(s)), 2), s...)
}
