package monitor_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch/program"
	"github.com/berth-dev/berth/containerizer/monitor/client"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// pipe returns a pipe to write input to.
func pipe(tb testing.TB) (r, w *os.File) {
	tb.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

func TestInputAndOutputInBulk(t *testing.T) {
	f := start(t, client.Options{})
	r := request(t, "a", "cat", "", options{})
	r.Stdin = wire.StdinOnce
	in, w := pipe(t)
	var out *output
	r.IO, out, _ = streams(in)
	p := f.launch(r)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		_, _ = w.Write(data)
		_ = w.Close()
	}()
	f.status(p, 0)
	if err := p.Session().Wait(); err != nil {
		t.Error(err)
	}
	if out.String() != string(data) {
		t.Errorf("%d bytes came back of %d", len(out.String()), len(data))
	}
}

func TestStdinModes(t *testing.T) {
	for _, tt := range []struct {
		name string
		mode wire.StdinMode
		want string // what the process says when the client's input has ended
	}{
		{"null", wire.StdinNull, "end\n"},
		{"once", wire.StdinOnce, "hello\nend\n"},
		{"open", wire.StdinOpen, "hello\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := start(t, client.Options{})
			r := request(t, "a", "cat; echo end; sleep 100", "", options{})
			r.Stdin = tt.mode
			in, w := pipe(t)
			var out *output
			r.IO, out, _ = streams(in)
			f.launch(r)
			_, _ = w.WriteString("hello\n")
			_ = w.Close()
			out.await(t, tt.want)
			if tt.mode == wire.StdinOpen {
				again, w := pipe(t)
				_, _ = w.WriteString("more\n")
				_ = w.Close()
				streams, out, _ := streams(again)
				if _, err := f.Attach(f.ctx(), "a", streams, false); err != nil {
					t.Fatal(err)
				}
				out.await(t, "more\n")
			}
			if strings.Contains(out.String(), "end") != strings.Contains(tt.want, "end") {
				t.Errorf("process says %q", out)
			}
		})
	}
}

// When the client with the input dies, a process with StdinOnce sees the end.
func TestClientWithInputLeaves(t *testing.T) {
	f := start(t, client.Options{})
	r := request(t, "a", "cat; echo end; sleep 100", "", options{})
	r.Stdin = wire.StdinOnce
	f.launch(r)
	other, err := client.Dial(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	in, w := pipe(t)
	s, _, _ := streams(in)
	if _, err := other.Attach(f.ctx(), "a", s, false); err != nil {
		t.Fatal(err)
	}
	s, out, _ := streams(nil)
	if _, err := f.Attach(f.ctx(), "a", s, false); err != nil {
		t.Fatal(err)
	}
	_, _ = w.WriteString("last words\n")
	out.await(t, "last words\n")
	_ = other.Close()
	out.await(t, "last words\nend\n")
}

func TestProcessClosesInput(t *testing.T) {
	f := start(t, client.Options{})
	r := request(t, "a", "exec 0<&-; echo closed; sleep 100", "", options{})
	r.Stdin = wire.StdinOpen
	in, w := pipe(t)
	var out *output
	r.IO, out, _ = streams(in)
	f.launch(r)
	out.await(t, "closed\n")
	if _, err := w.Write(make([]byte, 1<<16)); err != nil { // nobody waits for the process to read
		t.Fatal(err)
	}
	if err := f.Signal(f.ctx(), "a", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func TestSeveralClients(t *testing.T) {
	f := start(t, client.Options{})
	r := request(t, "a", "cat", "", options{})
	r.Stdin = wire.StdinOpen
	f.launch(r)
	const clients = 5
	var outs [clients]*output
	var sessions [clients]*client.Session
	var first *os.File
	for i := range clients {
		c, err := client.Dial(f.dir)
		if err != nil {
			t.Fatal(err)
		}
		defer closeIt(c)
		in, w := pipe(t)
		if first == nil {
			first = w
		}
		var s *containerizer.IO
		s, outs[i], _ = streams(in)
		if sessions[i], err = c.Attach(f.ctx(), "a", s, false); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = first.WriteString("to all\n")
	for _, out := range outs {
		out.await(t, "to all\n")
	}
	sessions[1].Detach()
	sessions[1].Detach()
	if err := sessions[1].Wait(); err != nil {
		t.Errorf("wait after detach: %v", err)
	}
	_, _ = first.WriteString("again\n")
	outs[2].await(t, "again\n")
	if strings.Contains(outs[1].String(), "again") {
		t.Error("a detached session goes on")
	}
	if err := f.Signal(f.ctx(), "a", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for i, s := range sessions {
		if err := s.Wait(); err != nil {
			t.Errorf("session %d: %v", i, err)
		}
	}
}

// stuck is a writer that takes nothing until it is let go.
type stuck struct {
	hit     chan struct{}
	release chan struct{}
	once    sync.Once
	n       int
}

func newStuck() *stuck { return &stuck{hit: make(chan struct{}), release: make(chan struct{})} }

func (s *stuck) Write(p []byte) (int, error) {
	s.once.Do(func() { close(s.hit) })
	<-s.release
	s.n += len(p)
	return len(p), nil
}

// A client that takes nothing is dropped; the process, the log and the others go on.
func TestStuckClientIsDropped(t *testing.T) {
	f := start(t, client.Options{})
	r := request(t, "a", "read x; head -c 8000000 /dev/zero | tr '\\0' x; echo; echo done >&2; sleep 100", f.dir, options{})
	r.Stdin = wire.StdinOpen
	f.launch(r)
	slow, err := client.Dial(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer closeIt(slow)
	jam := newStuck()
	stuckSession, err := slow.Attach(f.ctx(), "a", &containerizer.IO{Stdout: jam}, false)
	if err != nil {
		t.Fatal(err)
	}
	in, w := pipe(t)
	s, out, stderr := streams(in)
	good, err := f.Attach(f.ctx(), "a", s, true)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.WriteString("go\n")
	stderr.await(t, "done\n")
	if n := len(out.String()); n != 8000001 {
		t.Errorf("the good client has %d bytes", n)
	}
	close(jam.release)
	if err := stuckSession.Wait(); !errors.Is(err, containerizer.ErrResourceExhausted) {
		t.Errorf("the stuck session ended with %v", err)
	}
	if jam.n > wire.OutputWindow {
		t.Errorf("%d bytes were kept for the stuck client", jam.n)
	}
	good.Detach()
	// The connection of the dropped session is as good as before.
	if _, err := slow.List(f.ctx()); err != nil {
		t.Error(err)
	}
}

// A client that asked for it holds up the process instead, and gets everything.
func TestForegroundClientHoldsUp(t *testing.T) {
	f := start(t, client.Options{})
	r := request(t, "a", "head -c 4000000 /dev/zero; echo done >&2; read x; exit 3", "", options{})
	r.Stdin = wire.StdinOpen
	jam, stderr := newStuck(), newOutput()
	in, w := pipe(t)
	r.IO = &containerizer.IO{Stdin: in, Stdout: jam, Stderr: stderr}
	p := f.launch(r)
	<-jam.hit
	// It stays held up, and everything else works meanwhile.
	for range 20 {
		if _, err := f.List(f.ctx()); err != nil {
			t.Fatal(err)
		}
		pass(1)
	}
	if stderr.String() != "" {
		t.Fatal("the process was not held up")
	}
	close(jam.release)
	stderr.await(t, "done\n")
	_, _ = w.WriteString("\n")
	f.status(p, 3)
	if err := p.Session().Wait(); err != nil || jam.n != 4000000 {
		t.Errorf("%d bytes, %v", jam.n, err)
	}
}

// A stuck foreground client does not keep the exit from being known.
func TestExitWhileHeldUp(t *testing.T) {
	f := start(t, client.Options{})
	r := request(t, "a", "head -c 4000000 /dev/zero", f.dir, options{})
	jam := newStuck()
	r.IO = &containerizer.IO{Stdout: jam}
	p := f.launch(r)
	<-jam.hit
	if err := f.Signal(f.ctx(), "a", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if e := f.exit(p); e.Status.Signal() != syscall.SIGKILL {
		t.Errorf("status %#x", e.Status)
	}
	close(jam.release)
	_ = p.Session().Wait()
}

func TestWriterFails(t *testing.T) {
	f := start(t, client.Options{})
	r := request(t, "a", "while echo x; do sleep 0.01; done", "", options{})
	bad := errors.New("no space for output")
	r.IO = &containerizer.IO{Stdout: writerFunc(func([]byte) (int, error) { return 0, bad })}
	p := f.launch(r)
	if err := p.Session().Wait(); !errors.Is(err, bad) {
		t.Errorf("session: %v", err)
	}
	if !alive(p.PID) {
		t.Error("the process ended with the session")
	}
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(p []byte) (int, error) { return w(p) }

func TestTerminal(t *testing.T) {
	f := start(t, client.Options{})
	r := request(t, "a", "stty -echo; echo ready; read x; stty size; echo got $x; cat; tty; exit 5", f.dir, options{pty: true})
	r.Stdin = wire.StdinOnce
	in, w := pipe(t)
	var out *output
	r.IO, out, _ = streams(in)
	sizes := make(chan containerizer.Size)
	r.IO.Resize = sizes
	p := f.launch(r)
	out.await(t, "ready")
	sizes <- containerizer.Size{Columns: 40, Rows: 20}
	sizes <- containerizer.Size{Columns: 41, Rows: 21} // taken after the first was sent
	if _, err := f.List(f.ctx()); err != nil {         // and this is behind both
		t.Fatal(err)
	}
	_, _ = w.WriteString("hello\n")
	out.await(t, "got hello")
	_ = w.Close() // the end of input is a character
	f.status(p, 5)
	if err := p.Session().Wait(); err != nil {
		t.Error(err)
	}
	text := out.String()
	if !strings.HasPrefix(text, "ready\r\n21 41\r\ngot hello\r\n/dev/pts/") {
		t.Errorf("terminal shows %q", text)
	}
	if log := lines(t, f.dir); log[0] != "stdout F ready\r" {
		t.Errorf("log has %q", log)
	}
}

// The terminal's own keys work.
func TestTerminalInterrupt(t *testing.T) {
	f := start(t, client.Options{})
	r := request(t, "a", "trap 'echo caught; exit 6' INT; echo ready; while :; do sleep 0.05; done", "", options{pty: true})
	r.Stdin = wire.StdinOpen
	in, w := pipe(t)
	var out *output
	r.IO, out, _ = streams(in)
	p := f.launch(r)
	out.await(t, "ready")
	_, _ = w.WriteString("\x03")
	f.status(p, 6)
	out.await(t, "caught")
}

// A terminal that nobody has open at the moment is not at its end.
func TestTerminalReopened(t *testing.T) {
	f := start(t, client.Options{})
	r := request(t, "a", "t=$(tty); exec 0<&- 1>&- 2>&-; sleep 0.2; echo again > $t; sleep 0.1; exec > $t; echo more; exit 2", "", options{pty: true})
	r.TearDown = true
	var out *output
	r.IO, out, _ = streams(nil)
	p := f.launch(r)
	f.status(p, 2)
	if err := p.Session().Wait(); err != nil {
		t.Error(err)
	}
	if out.String() != "again\r\nmore\r\n" {
		t.Errorf("terminal shows %q", out)
	}
	f.idle(t)
}

// idle checks that the monitor uses no processor time.
func (f *fixture) idle(tb testing.TB) {
	tb.Helper()
	before := cpuTicks(tb, f.pid)
	pass(300)
	if used := cpuTicks(tb, f.pid) - before; used > 2 {
		tb.Errorf("the idle monitor used %d ticks of processor time in 300 ms", used)
	}
}

func cpuTicks(tb testing.TB, pid int) (n int) {
	tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		tb.Fatal(err)
	}
	var user, system int
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	_, _ = fmt.Sscan(fields[11], &user)
	_, _ = fmt.Sscan(fields[12], &system)
	return user + system
}

// Output that a child holds open after the process's exit ends after a while.
func TestOutputHeldOpen(t *testing.T) {
	f := start(t, client.Options{})
	r := request(t, "a", "(sleep 0.2; echo late; sleep 100) & echo early", f.dir, options{})
	r.TearDown = true
	var out *output
	r.IO, out, _ = streams(nil)
	p := f.launch(r)
	f.status(p, 0)
	known := time.Now()
	if err := p.Session().Wait(); err != nil {
		t.Error(err)
	}
	if d := time.Since(known); d < time.Second || d > 10*time.Second {
		t.Errorf("the session ended %v after the exit was known", d)
	}
	if out.String() != "early\nlate\n" {
		t.Errorf("output %q", out)
	}
	if list, err := f.List(f.ctx()); err != nil || len(list) != 0 {
		t.Errorf("left: %+v, %v", list, err)
	}
}

func TestAttachRefused(t *testing.T) {
	f := start(t, client.Options{})
	r := request(t, "a", "sleep 100", "", options{})
	r.Stdio = wire.StdioNull
	f.launch(r)
	s, _, _ := streams(nil)
	if _, err := f.Attach(f.ctx(), "a", s, false); !errors.Is(err, containerizer.ErrFailedPrecondition) {
		t.Errorf("attach without streams: %v", err)
	}
	if _, err := f.Attach(f.ctx(), "b", s, false); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("attach to nobody: %v", err)
	}
}

func TestAttachBeforeRelease(t *testing.T) {
	f := start(t, client.Options{})
	f.launch(request(t, "a", "echo first", f.dir, options{hold: true}))
	s, out, _ := streams(nil)
	session, err := f.Attach(f.ctx(), "a", s, true)
	if err != nil {
		t.Fatal(err)
	}
	p, err := f.Release(f.ctx(), "a", true)
	if err != nil {
		t.Fatal(err)
	}
	f.status(p, 0)
	if err := session.Wait(); err != nil || out.String() != "first\n" {
		t.Errorf("output %q, %v", out, err)
	}
}

func TestReopenLog(t *testing.T) {
	f := start(t, client.Options{})
	r := request(t, "a", "echo one; read x; echo two; sleep 100", f.dir, options{})
	r.Stdin = wire.StdinOpen
	in, w := pipe(t)
	var out *output
	r.IO, out, _ = streams(in)
	f.launch(r)
	out.await(t, "one\n")
	if err := os.Rename(f.dir+"/log", f.dir+"/old"); err != nil {
		t.Fatal(err)
	}
	if err := f.ReopenLog(f.ctx(), "a"); err != nil {
		t.Fatal(err)
	}
	_, _ = w.WriteString("\n")
	out.await(t, "two\n")
	eventually(t, "entry in the new log", func() bool {
		got := lines(t, f.dir)
		return len(got) == 1 && got[0] == "stdout F two"
	})
	if err := f.ReopenLog(f.ctx(), "b"); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("log of nobody: %v", err)
	}
}

func TestLogRotates(t *testing.T) {
	f := start(t, client.Options{})
	r := request(t, "a", "seq 20000", f.dir, options{})
	r.Log.MaxBytes, r.Log.MaxFiles = 100<<10, 3
	f.status(f.launch(r), 0)
	for _, name := range []string{"log", "log.1", "log.2"} {
		if st, err := os.Stat(f.dir + "/" + name); err != nil || st.Size() > 100<<10 || st.Size() == 0 {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	if got := lines(t, f.dir); got[len(got)-1] != "stdout F 20000" {
		t.Errorf("last entry %q", got[len(got)-1])
	}
}

// A full disk neither kills nor holds up the process.
func TestLogDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount a small filesystem")
	}
	f := start(t, client.Options{})
	logs := t.TempDir()
	if err := syscall.Mount("log-test", logs, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(logs, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	r := request(t, "a", "seq 20000", f.dir, options{})
	fd, err := unix.Open(logs, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(fd)
	r.Log.Dir = fd
	r.TearDown = true
	p := f.launch(r)
	f.status(p, 0)
	if e := f.exit(p); e.LogLost == 0 {
		t.Error("nothing is said of the lost log")
	}
	if rec, ok := exitRecord(t, f.dir); !ok || rec.LogLost == 0 {
		t.Errorf("exit record %+v", rec)
	}
}

func TestHoldNamespaces(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to make namespaces")
	}
	f := start(t, client.Options{})
	p := f.launch(request(t, "pod", "", f.dir, options{hold: true, namespaces: unix.CLONE_NEWNET | unix.CLONE_NEWUTS, prepare: func(b *program.Builder) {
		b.Call(unix.SYS_SETHOSTNAME, b.Text("in-the-pod"), len("in-the-pod"))
	}}))
	held, err := f.HoldNamespaces(f.ctx(), "pod", unix.CLONE_NEWNET|unix.CLONE_NEWUTS, true)
	if err != nil || len(held) != 2 {
		t.Fatalf("held %+v, %v", held, err)
	}
	if alive(p.PID) {
		t.Error("the process lives")
	}
	if rec, ok := processRecord(t, f.dir); !ok || rec.PID != 0 || rec.MonitorPID != uint64(f.pid) {
		t.Errorf("process record %+v", rec)
	}
	path := fmt.Sprintf("/proc/%d/fd/%d", f.pid, held[0].FD)
	r := request(t, "pod.c", "hostname", "", options{})
	ns, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(ns)
	var b program.Builder
	stdio := [3]program.Slot{b.Input(), b.Input(), b.Input()}
	slot := b.Input()
	b.Call(unix.SYS_SETNS, slot, unix.CLONE_NEWUTS)
	for fd, s := range stdio {
		b.Call(unix.SYS_DUP3, s, fd, 0).Accept(0, unix.EINVAL)
	}
	b.Call(unix.SYS_EXECVE, b.Text("/bin/sh"), b.Strings([]string{"sh", "-c", "hostname"}), b.Strings([]string{"PATH=/bin:/usr/bin"}))
	block, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r.Program, r.ProgramSize, r.Files = memfd(t, block), len(block), []int{ns}
	var out *output
	r.IO, out, _ = streams(nil)
	child := f.launch(r)
	f.status(child, 0)
	_ = child.Session().Wait()
	if out.String() != "in-the-pod\n" {
		t.Errorf("hostname %q", out)
	}
	if err := f.Signal(f.ctx(), "pod", syscall.SIGKILL); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("signal to a pod without process: %v", err)
	}
	if err := f.Shutdown(f.ctx(), false); err != nil {
		t.Errorf("shutdown with held namespaces: %v", err)
	}
}
