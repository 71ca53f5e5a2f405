package monitor_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch/interp"
	"github.com/berth-dev/berth/containerizer/launch/program"
	"github.com/berth-dev/berth/containerizer/monitor/client"
	"github.com/berth-dev/berth/containerizer/monitor/record"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

var binary string // the berth-monitor under test

func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	if dir := os.Getenv(endedRuntime); dir != "" {
		return leaveEnded(dir)
	}
	if os.Getenv(crashClient) != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "berth-monitor-test")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "berth-monitor")
	build := exec.CommandContext(context.Background(), "go", "build", "-ldflags=-s -w", "-o", binary, "github.com/berth-dev/berth/cmd/berth-monitor")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("build berth-monitor: %v\n%s", err, out))
	}
	return m.Run()
}

// timeout ends a test whose event does not come.
const timeout = 20 * time.Second

func contextOf(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	tb.Cleanup(cancel)
	return ctx
}

// fixture is a monitor with its directory.
type fixture struct {
	tb  testing.TB
	dir string
	*client.Client
	pid int
}

// start starts a monitor, and checks at the end of the test that it is gone.
func start(tb testing.TB, o client.Options) *fixture {
	tb.Helper()
	f := &fixture{tb: tb, dir: tb.TempDir()}
	var err error
	if f.Client, err = client.Start(binary, f.dir, o); err != nil {
		tb.Fatal(err)
	}
	if f.pid, err = f.MonitorPID(f.ctx()); err != nil {
		tb.Fatal(err)
	}
	fd, err := unix.PidfdOpen(f.pid, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		defer closeFD(fd)
		if c, err := client.Dial(f.dir); err == nil {
			_ = c.Shutdown(context.Background(), true)
			_ = c.Close()
		}
		_ = f.Close()
		if !ended(fd) {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			tb.Errorf("monitor %d did not end", f.pid)
		}
	})
	return f
}

// ended waits for the end of a pidfd's process.
func ended(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(timeout/time.Millisecond))
		if err != unix.EINTR {
			return n > 0
		}
	}
}

// options of a test program.
type options struct {
	barrier, hold, pty bool
	namespaces         uint64
	prepare            func(*program.Builder)
	command            []string // instead of sh -c
}

// encode makes a program that executes a shell line.
func encode(tb testing.TB, line string, o options) []byte {
	tb.Helper()
	var b program.Builder
	stdio := [3]program.Slot{b.Input(), b.Input(), b.Input()}
	b.Clone(o.namespaces, program.None)
	if o.prepare != nil {
		o.prepare(&b)
	}
	b.Call(unix.SYS_SETSID)
	if o.pty {
		stdio = openPty(&b)
	}
	await := func(message string) {
		b.Call(unix.SYS_WRITE, program.Progress, b.Text(message), 1).With(program.FlagFull)
		b.Call(unix.SYS_READ, program.Progress, b.Zeros(1), 1).With(program.FlagFull)
	}
	if o.barrier {
		await("B")
	}
	for fd, s := range stdio {
		b.Call(unix.SYS_DUP3, s, fd, 0).Accept(0, unix.EINVAL)
	}
	if o.hold {
		await("H")
	}
	b.Call(unix.SYS_CLOSE_RANGE, 3, int(^uint32(0)), unix.CLOSE_RANGE_CLOEXEC)
	b.Call(unix.SYS_RT_SIGPROCMASK, 2, b.Words(0), 0, 8)
	argv := o.command
	if argv == nil {
		argv = []string{"/bin/sh", "-c", line}
	}
	b.Call(unix.SYS_EXECVE, b.Text(argv[0]), b.Strings(argv), b.Strings([]string{"PATH=/bin:/usr/bin:/sbin"}))
	block, err := b.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return block
}

// openPty opens a terminal, makes it the controlling one and sends its master.
func openPty(b *program.Builder) [3]program.Slot {
	master, slave := b.NewSlot(), b.NewSlot()
	b.Call(unix.SYS_OPENAT, unix.AT_FDCWD, b.Text("/dev/ptmx"), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0).To(master)
	b.Call(unix.SYS_IOCTL, master, unix.TIOCSPTLCK, b.Zeros(4))
	b.Call(unix.SYS_IOCTL, master, unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY).To(slave)
	b.Call(unix.SYS_IOCTL, slave, unix.TIOCSCTTY, 0)
	control := b.Words(uint64(unix.CmsgLen(4)), uint64(unix.SOL_SOCKET|unix.SCM_RIGHTS<<32), 0)
	b.Call(program.OpStore, control+16, master)
	iov := b.Words(b.Text(string(rune(interp.MessagePty))), 1)
	message := b.Words(0, 0, iov, 1, control, uint64(unix.CmsgSpace(4)), 0)
	b.Call(unix.SYS_SENDMSG, program.Progress, message, unix.MSG_NOSIGNAL)
	return [3]program.Slot{slave, slave, slave}
}

// memfd puts a program into a memfd.
func memfd(tb testing.TB, block []byte) int {
	tb.Helper()
	fd, err := unix.MemfdCreate("program", unix.MFD_CLOEXEC)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { closeFD(fd) })
	if _, err := unix.Write(fd, block); err != nil {
		tb.Fatal(err)
	}
	return fd
}

// request is a launch of a shell line with pipes and, with a directory, records
// and a log there.
func request(tb testing.TB, name, line, dir string, o options) *client.LaunchRequest {
	tb.Helper()
	block := encode(tb, line, o)
	r := &client.LaunchRequest{Name: name, Program: memfd(tb, block), ProgramSize: len(block), Hold: o.hold}
	if o.pty {
		r.Stdio = wire.StdioPty
	}
	if dir != "" {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { closeFD(fd) })
		r.Record = &fd
		r.Log = &client.Log{Dir: fd, Name: "log"}
	}
	return r
}

// ctx ends a request whose answer does not come.
func (f *fixture) ctx() context.Context { return contextOf(f.tb) }

// launch launches, and fails the test when that fails.
func (f *fixture) launch(r *client.LaunchRequest) *client.Process {
	f.tb.Helper()
	p, err := f.Launch(f.ctx(), r)
	if err != nil {
		f.tb.Fatalf("launch: %v", err)
	}
	return p
}

// exit waits for the end of a process.
func (f *fixture) exit(p *client.Process) client.Exit {
	f.tb.Helper()
	e, err := p.Wait(f.ctx())
	if err != nil {
		f.tb.Fatalf("wait: %v", err)
	}
	return e
}

// status checks the exit status of a process.
func (f *fixture) status(p *client.Process, want int) {
	f.tb.Helper()
	if e := f.exit(p); !e.Status.Exited() || e.Status.ExitStatus() != want {
		f.tb.Errorf("wait status %#x, want exit %d", e.Status, want)
	}
}

// lines returns the texts of a log's entries with their stream.
func lines(tb testing.TB, dir string) []string {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		tb.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(b)) {
		at, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if when, err := time.Parse(time.RFC3339Nano, at); err != nil || time.Since(when).Abs() > time.Minute {
			tb.Errorf("log has time %q", at)
		}
		list = append(list, rest)
	}
	return list
}

func exitRecord(tb testing.TB, dir string) (record.Exit, bool) {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(dir, record.ExitFile))
	if err != nil {
		return record.Exit{}, false
	}
	e, err := record.ParseExit(b)
	if err != nil {
		tb.Errorf("exit record %q: %v", b, err)
	}
	return e, true
}

func processRecord(tb testing.TB, dir string) (record.Process, bool) {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(dir, record.ProcessFile))
	if err != nil {
		return record.Process{}, false
	}
	p, err := record.ParseProcess(b)
	if err != nil {
		tb.Errorf("process record %q: %v", b, err)
	}
	return p, true
}

// output is a writer that can be waited for.
type output struct {
	mu   sync.Mutex
	cond sync.Cond
	b    bytes.Buffer
}

func newOutput() *output {
	o := &output{}
	o.cond.L = &o.mu
	return o
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cond.Broadcast()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// await waits until the output contains text.
func (o *output) await(tb testing.TB, text string) {
	tb.Helper()
	stop := context.AfterFunc(contextOf(tb), o.cond.Broadcast)
	defer stop()
	o.mu.Lock()
	defer o.mu.Unlock()
	for deadline := time.Now().Add(timeout); !strings.Contains(o.b.String(), text); {
		if time.Now().After(deadline) {
			tb.Fatalf("output %q, want %q in it", o.b.String(), text)
		}
		o.cond.Wait()
	}
}

// streams attaches outputs.
func streams(stdin *os.File) (*containerizer.IO, *output, *output) {
	out, err := newOutput(), newOutput()
	s := &containerizer.IO{Stdout: out, Stderr: err}
	if stdin != nil {
		s.Stdin = stdin
	}
	return s, out, err
}

// alive says whether a process exists and is no zombie.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	i := bytes.LastIndexByte(b, ')')
	return i > 0 && b[i+2] != 'Z'
}

// eventually waits for a condition of the world outside, which has no event.
func eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(timeout); !condition(); {
		if time.Now().After(deadline) {
			tb.Fatalf("%s: did not happen", what)
		}
		pass(2)
	}
}

func kill(tb testing.TB, pid int) {
	tb.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		tb.Fatal(err)
	}
}

// runAs runs a command as another user and returns all of its output.
func runAs(tb testing.TB, uid uint32, command ...string) string {
	tb.Helper()
	cmd := exec.CommandContext(contextOf(tb), command[0], command[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, _ := cmd.CombinedOutput()
	return string(out)
}

func closeFD(fd int) { _ = unix.Close(fd) }

func closeIt(c io.Closer) { _ = c.Close() }

// pass lets some milliseconds pass, where that is what is tested.
func pass(milliseconds int) { _, _ = unix.Poll(nil, milliseconds) }
