package monitor_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer/monitor/client"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// peer is a client that says what it likes.
type peer struct {
	t  testing.TB
	fd int
}

func connect(tb testing.TB, dir string) *peer {
	tb.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { closeFD(fd) })
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: filepath.Join(dir, wire.SocketName)}); err != nil {
		tb.Fatal(err)
	}
	limit := unix.NsecToTimeval(int64(timeout))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		tb.Fatal(err)
	}
	return &peer{tb, fd}
}

// say sends bytes and descriptors; the connection may be closed already.
func (p *peer) say(b []byte, fds ...int) error {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	return unix.Sendmsg(p.fd, b, rights, nil, unix.MSG_NOSIGNAL)
}

// hear returns the next frame; ok is false at the end of the connection.
func (p *peer) hear() (h wire.Header, body []byte, ok bool) {
	p.t.Helper()
	buf := make([]byte, wire.MaxFrame)
	n, err := unix.Read(p.fd, buf)
	if n <= 0 {
		if errors.Is(err, unix.EAGAIN) {
			p.t.Fatal("no answer")
		}
		return h, nil, false
	}
	h, body, err = wire.Parse(buf[:n])
	if err != nil {
		p.t.Fatalf("the monitor says %q: %v", buf[:n], err)
	}
	return h, body, true
}

// refused expects an error frame.
func (p *peer) refused(what string, want syscall.Errno) {
	p.t.Helper()
	h, body, ok := p.hear()
	m, err := wire.ParseError(body)
	if !ok || h.Type != wire.TypeError || err != nil || syscall.Errno(m.Errno) != want {
		p.t.Errorf("%s: answer %+v %+v, want error %v", what, h, m, want)
	}
}

func frame(kind wire.Type, flags uint16, body wire.Body) []byte {
	return wire.Append(nil, wire.Header{Type: kind, Flags: flags, Tag: 7}, body)
}

// running starts a monitor with a process that reads.
func running(tb testing.TB) *fixture {
	tb.Helper()
	f := start(tb, client.Options{})
	r := request(tb, "a", "exec sleep 1000", "", options{})
	r.Stdin = wire.StdinOpen
	f.launch(r)
	return f
}

// well checks that the monitor serves others as before.
func (f *fixture) well(tb testing.TB) {
	tb.Helper()
	list, err := f.List(contextOf(tb))
	if err != nil || len(list) != 1 || list[0].State != wire.StateRunning {
		tb.Fatalf("the monitor says %+v, %v", list, err)
	}
}

func TestMalformedFrames(t *testing.T) {
	f := running(t)
	name := wire.Name("a")
	for what, b := range map[string][]byte{
		"empty launch":         frame(wire.TypeLaunch, 0, nil),
		"launch without name":  frame(wire.TypeLaunch, 0, wire.Launch{FDs: 1}),
		"launch without files": frame(wire.TypeLaunch, 0, wire.Launch{FDs: 1, Name: name}),
		"empty signal":         frame(wire.TypeSignal, 0, nil),
		"signal 0":             frame(wire.TypeSignal, 0, wire.Signal{Signal: 0, Name: name}),
		"signal 65":            frame(wire.TypeSignal, 0, wire.Signal{Signal: 65, Name: name}),
		"empty name":           frame(wire.TypeWait, 0, wire.Name("")),
		"attach to no stream":  frame(wire.TypeAttach, 0, name),
		"empty hold":           frame(wire.TypeHoldNamespaces, 0, nil),
	} {
		p := connect(t, f.dir)
		if err := p.say(b); err != nil {
			t.Fatal(err)
		}
		p.refused(what, syscall.EINVAL)
		// The connection goes on.
		if err := p.say(frame(wire.TypeList, 0, nil)); err != nil {
			t.Fatal(err)
		}
		if h, _, ok := p.hear(); !ok || h.Type != wire.TypeElement {
			t.Errorf("%s: list after it: %+v", what, h)
		}
	}
	p := connect(t, f.dir)
	if err := p.say(frame(200, 0, nil)); err != nil {
		t.Fatal(err)
	}
	p.refused("unknown type", syscall.ENOSYS)
	for what, b := range map[string][]byte{
		"short header":  {wire.Version, byte(wire.TypeList)},
		"other version": {9, byte(wire.TypeList), 0, 0, 0, 0, 0, 0},
	} {
		p := connect(t, f.dir)
		if err := p.say(b); err != nil {
			t.Fatal(err)
		}
		p.refused(what, syscall.EPROTO)
		if _, _, ok := p.hear(); ok {
			t.Errorf("%s: the connection goes on", what)
		}
	}
	f.well(t)
}

// Session frames out of place are late or wrong, never harmful.
func TestSessionFramesOutOfPlace(t *testing.T) {
	f := running(t)
	p := connect(t, f.dir)
	for _, kind := range []wire.Type{wire.TypeData, wire.TypeAck, wire.TypeCloseStdin, wire.TypeResize} {
		if err := p.say(frame(kind, 0, wire.Ack{Bytes: 1 << 30})); err != nil {
			t.Fatal(err)
		}
	}
	attach := frame(wire.TypeAttach, uint16(wire.SessionStdin|wire.SessionStdout), wire.Name("a"))
	for i, want := range []wire.Type{wire.TypeOK, wire.TypeError} { // one session a tag
		if err := p.say(attach); err != nil {
			t.Fatal(err)
		}
		if h, _, ok := p.hear(); !ok || h.Type != want {
			t.Errorf("attach %d: %+v", i, h)
		}
	}
	// More acknowledged than was sent.
	if err := p.say(frame(wire.TypeAck, 0, wire.Ack{Bytes: 1})); err != nil {
		t.Fatal(err)
	}
	p.refused("ack", syscall.EINVAL)
	// More input than the window allows: the process reads nothing.
	if err := p.say(attach); err != nil {
		t.Fatal(err)
	}
	if h, _, ok := p.hear(); !ok || h.Type != wire.TypeOK {
		t.Errorf("attach again: %+v", h)
	}
	data := append(frame(wire.TypeData, 0, nil), make([]byte, wire.MaxData)...)
	for range 6 { // the pipe takes two windows less an Ack
		if err := p.say(data); err != nil {
			t.Fatal(err)
		}
	}
	for {
		h, body, ok := p.hear()
		if !ok {
			t.Fatal("the connection ended")
		}
		if h.Type == wire.TypeAck {
			continue
		}
		m, _ := wire.ParseError(body)
		if h.Type != wire.TypeError || syscall.Errno(m.Errno) != syscall.EPROTO {
			t.Errorf("answer %+v %+v", h, m)
		}
		break
	}
	f.well(t)
}

// A client that asks and never listens is dropped.
func TestClientThatNeverListens(t *testing.T) {
	f := running(t)
	p := connect(t, f.dir)
	list := frame(wire.TypeSignal, 0, wire.Signal{Signal: 10, Name: []byte("nobody")})
	limit := unix.NsecToTimeval(int64(timeout))
	if err := unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		t.Fatal(err)
	}
	const most = 1 << 18 // more answers than the monitor keeps
	var err error
	for n := 0; n < most && err == nil; n++ {
		err = p.say(list)
	}
	if !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		t.Fatalf("the client is not dropped: %v", err)
	}
	f.well(t)
	if m := measure(t, f.pid); m.private > 3000 {
		t.Errorf("the monitor keeps %d KiB", m.private)
	}
}

func TestTooManyConnections(t *testing.T) {
	f := running(t)
	var last *peer
	for range 80 {
		last = connect(t, f.dir)
	}
	if _, _, ok := last.hear(); ok {
		t.Error("the last connection is served")
	}
	f.well(t)
}

func TestDescriptorsAreNotKept(t *testing.T) {
	f := running(t)
	quiet()
	before := countFDs(t, f.pid)
	p := connect(t, f.dir)
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer closeIt(null)
	many := make([]int, wire.MaxFDs)
	for i := range many {
		many[i] = int(null.Fd())
	}
	for range 3 {
		if err := p.say(frame(wire.TypeDescriptors, 0, nil), many...); err != nil {
			t.Fatal(err)
		}
	}
	// They go with any frame, and to a launch that is refused.
	if err := p.say(frame(wire.TypeList, 0, nil), many...); err != nil {
		t.Fatal(err)
	}
	if err := p.say(frame(wire.TypeLaunch, 0, wire.Launch{FDs: 3, Name: []byte("b")}), many[:3]...); err != nil {
		t.Fatal(err)
	}
	eventually(t, "descriptors closed", func() bool { return countFDs(t, f.pid) == before+1 })
	// Ahead of a launch that never comes: too many, then the end of the client.
	for range 5 {
		if err := p.say(frame(wire.TypeDescriptors, 0, nil), many...); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "limit of descriptors", func() bool { return countFDs(t, f.pid) <= before+1+wire.MaxLaunchFDs })
	closeFD(p.fd)
	eventually(t, "descriptors of a client that left closed", func() bool { return countFDs(t, f.pid) == before })
	f.well(t)
}

// Other users have no business with the socket, and nobody sees into the monitor.
func TestProtection(t *testing.T) {
	f := running(t)
	st, err := os.Stat(filepath.Join(f.dir, wire.SocketName))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket has %v, %v", st.Mode(), err)
	}
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", f.pid)); err != nil || !bytes.Contains(b, []byte("NoNewPrivs:\t0")) {
		t.Errorf("status: %v", err)
	}
	// Files of a process that is not dumpable belong to root (proc(5)).
	if os.Getuid() == 0 {
		out := runAs(t, 1234, "cat", fmt.Sprintf("/proc/%d/environ", f.pid))
		if !strings.Contains(out, "Permission denied") {
			t.Errorf("another user reads the environment: %q", out)
		}
	}
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", f.pid)); err != nil || cwd != "/" {
		t.Errorf("working directory %q, %v", cwd, err)
	}
}

// FuzzFrames talks to a real monitor: it must neither die nor get stuck.
func FuzzFrames(f *testing.F) {
	monitor := running(f)
	name := wire.Name("a")
	attach := uint16(wire.SessionStdin | wire.SessionStdout | wire.SessionPause)
	for _, b := range [][]byte{
		frame(wire.TypeLaunch, 0, wire.Launch{FDs: 2, ProgramSize: 4096, Flags: wire.LaunchRecord, Name: []byte("b")}),
		frame(wire.TypeAttach, attach, name),
		frame(wire.TypeData, 0, wire.Name("input")),
		frame(wire.TypeAck, 0, wire.Ack{Bytes: 1}),
		frame(wire.TypeResize, 0, wire.Resize{Columns: 1, Rows: 2}),
		frame(wire.TypeSignal, 0, wire.Signal{Signal: 18, Name: name}),
		frame(wire.TypeHoldNamespaces, 0, wire.HoldNamespaces{Kinds: unix.CLONE_NEWNET, Name: name}),
		frame(wire.TypeRelease, 1, name),
		frame(wire.TypeReopenLog, 0, name),
		frame(wire.TypeWait, 0, name),
		frame(wire.TypeDetach, 0, nil),
		frame(wire.TypeList, 0, nil),
	} {
		f.Add(b, frame(wire.TypeAttach, attach, name))
	}
	null, err := os.Open("/dev/null")
	if err != nil {
		f.Fatal(err)
	}
	defer closeIt(null)
	f.Fuzz(func(t *testing.T, first, second []byte) {
		for _, b := range [][]byte{first, second} {
			// What ends the process or the monitor is asked for on purpose elsewhere.
			if len(b) > 1 && (wire.Type(b[1]) == wire.TypeShutdown || wire.Type(b[1]) == wire.TypeSignal && len(b) > wire.HeaderSize && b[wire.HeaderSize] != 18) {
				return
			}
		}
		p := connect(t, monitor.dir)
		_ = p.say(first, int(null.Fd()), int(null.Fd()))
		_ = p.say(second)
		_ = p.say(first)
		monitor.well(t)
		closeFD(p.fd)
	})
}
