package monitor_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch/interp"
	"github.com/berth-dev/berth/containerizer/launch/program"
	"github.com/berth-dev/berth/containerizer/monitor/client"
	"github.com/berth-dev/berth/containerizer/monitor/record"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

func TestRun(t *testing.T) {
	f := start(t, client.Options{})
	before := time.Now()
	r := request(t, "a", "echo out; echo err >&2; exit 7", f.dir, options{})
	r.TearDown = true
	var out, err *output
	r.IO, out, err = streams(nil)
	p := f.launch(r)
	if p.State != wire.StateRunning || p.StartedAt.Before(before) {
		t.Errorf("launched %+v", p)
	}
	e := f.exit(p)
	if e.Status.ExitStatus() != 7 || e.FinishedAt.Before(p.StartedAt) || time.Since(e.FinishedAt) > time.Minute {
		t.Errorf("exit %+v", e)
	}
	if err := p.Session().Wait(); err != nil {
		t.Errorf("session: %v", err)
	}
	if out.String() != "out\n" || err.String() != "err\n" {
		t.Errorf("stdout %q, stderr %q", out, err)
	}
	got, want := lines(t, f.dir), []string{"stdout F out", "stderr F err"}
	if got[0][:6] == "stderr" { // which of two pipes is read first is open
		got[0], got[1] = got[1], got[0]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("log -want +got:\n%s", diff)
	}
	proc, ok := processRecord(t, f.dir)
	if !ok || proc.PID != uint64(p.PID) || proc.MonitorPID != uint64(f.pid) || proc.StartedAt != uint64(p.StartedAt.UnixNano()) || proc.StartTicks != p.StartTicks || p.StartTicks == 0 {
		t.Errorf("process record %+v, process %+v", proc, p)
	}
	if rec, ok := exitRecord(t, f.dir); !ok || rec.WaitStatus != 7<<8 || rec.FinishedAt != uint64(e.FinishedAt.UnixNano()) {
		t.Errorf("exit record %+v", rec)
	}
	if err := f.Shutdown(f.ctx(), false); err != nil {
		t.Error(err)
	}
	if _, err := client.Dial(f.dir); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("dial after shutdown: %v", err)
	}
}

// What is written before the exit is in the log when the exit is known.
func TestOutputComesBeforeExit(t *testing.T) {
	f := start(t, client.Options{})
	for range 20 {
		r := request(t, "a", "seq 2000; printf end", f.dir, options{})
		r.TearDown = true
		f.status(f.launch(r), 0)
		got := lines(t, f.dir)
		if len(got) != 2001 || got[2000] != "stdout P end" {
			t.Fatalf("%d entries, the last %q", len(got), got[len(got)-1])
		}
		if err := os.Remove(filepath.Join(f.dir, "log")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSignalEnds(t *testing.T) {
	f := start(t, client.Options{})
	r := request(t, "a", "sleep 100", f.dir, options{})
	r.TearDown = true
	p := f.launch(r)
	if err := f.Signal(f.ctx(), "a", syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if e := f.exit(p); e.Status.Signal() != syscall.SIGTERM {
		t.Errorf("status %#x", e.Status)
	}
	if err := f.Signal(f.ctx(), "a", syscall.SIGTERM); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("signal after the exit: %v", err)
	}
}

// The container gets the default action of every signal, whatever the monitor does.
func TestSignalsAreReset(t *testing.T) {
	f := start(t, client.Options{})
	r := request(t, "a", "", "", options{command: []string{"/bin/cat", "/proc/self/status"}})
	var out *output
	r.IO, out, _ = streams(nil)
	p := f.launch(r)
	f.status(p, 0)
	_ = p.Session().Wait()
	for _, want := range []string{"SigBlk:\t0000000000000000\n", "SigIgn:\t0000000000000000\n", "SigCgt:\t0000000000000000\n", "THP_enabled:\t1\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("process says %q, want %q", out, want)
		}
	}
}

func TestProgramFails(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    options
		want client.ProgramError
	}{
		{"no such command", options{command: []string{"/no/such"}}, client.ProgramError{Op: 6, Errno: unix.ENOENT}},
		{"not executable", options{command: []string{"/etc/passwd"}}, client.ProgramError{Op: 6, Errno: unix.EACCES}},
		{"before", options{prepare: func(b *program.Builder) { b.Call(unix.SYS_CHDIR, b.Text("/no/where")) }}, client.ProgramError{Op: 0, Errno: unix.ENOENT}},
		{"clone", options{namespaces: 1 << 40}, client.ProgramError{Op: interp.CloneOp, Errno: unix.EINVAL}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := start(t, client.Options{})
			r := request(t, "a", "", f.dir, tt.o)
			r.IO, _, _ = streams(nil)
			_, err := f.Launch(f.ctx(), r)
			var failure *client.ProgramError
			if !errors.As(err, &failure) || *failure != tt.want {
				t.Fatalf("error %v, want %+v", err, tt.want)
			}
			list, err := f.List(f.ctx())
			if err != nil || len(list) != 0 {
				t.Errorf("left: %+v, %v", list, err)
			}
			if _, ok := processRecord(t, f.dir); ok {
				t.Error("a process record is left")
			}
			if _, ok := exitRecord(t, f.dir); ok {
				t.Error("an exit record is left")
			}
			// The monitor is good for another try.
			f.status(f.launch(request(t, "a", "exit 3", f.dir, options{})), 3)
		})
	}
}

func TestLaunchRefused(t *testing.T) {
	f := start(t, client.Options{})
	f.launch(request(t, "a", "sleep 100", f.dir, options{}))
	bad := []struct {
		name   string
		change func(*client.LaunchRequest)
		want   error
	}{
		{"name taken", func(r *client.LaunchRequest) { r.Name = "a" }, containerizer.ErrAlreadyExists},
		{"no name", func(r *client.LaunchRequest) { r.Name = "" }, containerizer.ErrInvalid},
		{"program size", func(r *client.LaunchRequest) { r.ProgramSize = 1 << 20 }, containerizer.ErrInvalid},
		{"no program", func(r *client.LaunchRequest) { r.Program = *r.Record }, nil},
		{"input missing", func(r *client.LaunchRequest) { r.Files = []int{0} }, containerizer.ErrInvalid},
		{"log name", func(r *client.LaunchRequest) { r.Log.Name = "../x" }, containerizer.ErrInvalid},
		{"log is a directory", func(r *client.LaunchRequest) { r.Log.Name = "sub" }, syscall.EISDIR},
		{"records nowhere", func(r *client.LaunchRequest) { *r.Record = r.Program }, syscall.ENOTDIR},
		{"attach to passthrough", func(r *client.LaunchRequest) {
			r.Stdio, r.Files = wire.StdioPassthrough, []int{0, 1, 2}
			r.IO, _, _ = streams(nil)
		}, containerizer.ErrInvalid},
	}
	if err := os.Mkdir(filepath.Join(f.dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	fds := countFDs(t, f.pid)
	for _, tt := range bad {
		r := request(t, "b", "true", f.dir, options{})
		tt.change(r)
		p, err := f.Launch(f.ctx(), r)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %+v, %v, want %v", tt.name, p, err, tt.want)
		}
	}
	eventually(t, "descriptors of refused launches closed", func() bool { return countFDs(t, f.pid) <= fds })
	if list, err := f.List(f.ctx()); err != nil || len(list) != 1 {
		t.Errorf("list %+v, %v", list, err)
	}
}

func countFDs(tb testing.TB, pid int) int {
	tb.Helper()
	list, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	if err != nil {
		tb.Fatal(err)
	}
	return len(list)
}

func TestBarrierAndHold(t *testing.T) {
	f := start(t, client.Options{})
	p := f.launch(request(t, "a", "exit 4", f.dir, options{barrier: true, hold: true}))
	if p.State != wire.StateBarrier || !alive(p.PID) {
		t.Fatalf("state %v", p.State)
	}
	if rec, ok := processRecord(t, f.dir); !ok || rec.PID != uint64(p.PID) || rec.StartedAt != 0 {
		t.Errorf("process record %+v", rec)
	}
	held, err := f.Release(f.ctx(), "a", false)
	if err != nil || held.State != wire.StateHeld || held.PID != p.PID {
		t.Fatalf("after the barrier: %+v, %v", held, err)
	}
	// Another client starts it.
	other, err := client.Dial(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer closeIt(other)
	running, err := other.Release(f.ctx(), "a", true)
	if err != nil || running.State != wire.StateRunning || running.StartedAt.IsZero() {
		t.Fatalf("after the hold: %+v, %v", running, err)
	}
	f.status(p, 4)
	f.status(running, 4)
	if _, err := other.Release(f.ctx(), "a", false); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("release after the exit: %v", err)
	}
}

func TestReleaseThatFails(t *testing.T) {
	f := start(t, client.Options{})
	f.launch(request(t, "a", "", f.dir, options{hold: true, command: []string{"/no/such"}}))
	_, err := f.Release(f.ctx(), "a", false)
	var failure *client.ProgramError
	if !errors.As(err, &failure) || failure.Errno != unix.ENOENT {
		t.Errorf("release: %v", err)
	}
	if _, ok := processRecord(t, f.dir); ok {
		t.Error("a process record is left")
	}
}

func TestKillWhileHeld(t *testing.T) {
	f := start(t, client.Options{})
	r := request(t, "a", "exit 0", f.dir, options{hold: true})
	r.TearDown = true
	p := f.launch(r)
	if err := f.Signal(f.ctx(), "a", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if e := f.exit(p); e.Status.Signal() != syscall.SIGKILL {
		t.Errorf("status %#x", e.Status)
	}
	if rec, ok := exitRecord(t, f.dir); !ok || rec.WaitStatus != 9 {
		t.Errorf("exit record %+v", rec)
	}
}

func TestPassthrough(t *testing.T) {
	f := start(t, client.Options{})
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer closeFD(pipe[0])
	r := request(t, "a", "echo direct", f.dir, options{})
	r.Stdio, r.Files = wire.StdioPassthrough, []int{pipe[1], pipe[1], pipe[1]}
	p := f.launch(r)
	closeFD(pipe[1])
	buf := make([]byte, 64)
	n, _ := unix.Read(pipe[0], buf)
	if string(buf[:n]) != "direct\n" {
		t.Errorf("read %q", buf[:n])
	}
	if n, _ := unix.Read(pipe[0], buf); n != 0 {
		t.Errorf("the monitor keeps the descriptor open")
	}
	f.status(p, 0)
}

func TestManyDescriptors(t *testing.T) {
	f := start(t, client.Options{})
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(null)
	const many = 600
	block := func() []byte {
		var b program.Builder
		for range 3 + many {
			b.Input()
		}
		b.Call(unix.SYS_EXECVE, b.Text("/bin/true"), b.Strings([]string{"true"}), b.Strings(nil))
		block, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return block
	}()
	r := &client.LaunchRequest{Name: "a", Program: memfd(t, block), ProgramSize: len(block), TearDown: true}
	for range many {
		r.Files = append(r.Files, null)
	}
	f.status(f.launch(r), 0)
	eventually(t, "descriptors closed", func() bool { return countFDs(t, f.pid) < 20 })
}

func TestUserOwnsPipes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to change the user")
	}
	f := start(t, client.Options{})
	r := request(t, "a", "echo again > /dev/stdout; echo more > /proc/self/fd/2", "", options{prepare: func(b *program.Builder) {
		b.Call(unix.SYS_SETRESGID, 1234, 1234, 1234)
		b.Call(unix.SYS_SETRESUID, 1234, 1234, 1234)
	}})
	id := uint32(1234)
	r.UID, r.GID = &id, &id
	var out, stderr *output
	r.IO, out, stderr = streams(nil)
	p := f.launch(r)
	f.status(p, 0)
	_ = p.Session().Wait()
	if out.String() != "again\n" || stderr.String() != "more\n" {
		t.Errorf("stdout %q, stderr %q", out, stderr)
	}
}

func TestOrphansAreReaped(t *testing.T) {
	f := start(t, client.Options{})
	// The grandchild outlives its parent and comes to the monitor.
	r := request(t, "a", "(sleep 0.05; exit 3) & echo $!; sleep 100", "", options{})
	var out *output
	r.IO, out, _ = streams(nil)
	f.launch(r)
	out.await(t, "\n")
	r = request(t, "b", "setsid sh -c 'echo $$; sleep 0.1' & exit 0", "", options{})
	r.IO, out, _ = streams(nil)
	p := f.launch(r)
	f.status(p, 0)
	out.await(t, "\n")
	orphan := strings.TrimSpace(out.String())
	eventually(t, "orphan reaped", func() bool {
		_, err := os.Stat("/proc/" + orphan)
		return errors.Is(err, os.ErrNotExist)
	})
}

func TestChildrenShareTheMonitor(t *testing.T) {
	f := start(t, client.Options{})
	root := f.launch(request(t, "a", "sleep 100", f.dir, options{}))
	child := filepath.Join(f.dir, "child")
	if err := os.Mkdir(child, 0o700); err != nil {
		t.Fatal(err)
	}
	f.launch(request(t, "a.b", "echo child; sleep 100", child, options{}))
	exec := request(t, "a.b.exec", "exit 5", "", options{})
	exec.Exec = true
	f.status(f.launch(exec), 5)
	list, err := f.List(f.ctx())
	if err != nil || len(list) != 2 || list[0].Name != "a" || list[1].Name != "a.b" || list[0].PID != root.PID || list[0].State != wire.StateRunning {
		t.Errorf("list %+v, %v", list, err)
	}
	if err := f.Signal(f.ctx(), "a.b", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "record of the child", func() bool { _, ok := exitRecord(t, child); return ok })
	if _, ok := exitRecord(t, f.dir); ok || !alive(root.PID) {
		t.Error("the root has ended with its child")
	}
	if rec, _ := processRecord(t, child); rec.MonitorPID != uint64(f.pid) {
		t.Errorf("record of the child %+v", rec)
	}
}

func TestRecordsCannotBeWritten(t *testing.T) {
	f := start(t, client.Options{})
	if err := os.Mkdir(filepath.Join(f.dir, record.ProcessFile), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := f.Launch(f.ctx(), request(t, "a", "sleep 100", f.dir, options{}))
	if err == nil || !errors.Is(err, syscall.EISDIR) {
		t.Errorf("launch: %v", err)
	}
	if list, err := f.List(f.ctx()); err != nil || len(list) != 0 {
		t.Errorf("left: %+v, %v", list, err)
	}
}

func TestWaitByName(t *testing.T) {
	f := start(t, client.Options{})
	r := request(t, "a", "read x; exit 9", f.dir, options{})
	r.Stdin, r.TearDown = wire.StdinOpen, true
	f.launch(r)
	other, err := client.Dial(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer closeIt(other)
	gone, cancel := context.WithCancel(f.ctx())
	cancel()
	if _, err := other.Wait(gone, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("wait with a dead context: %v", err)
	}
	type result struct {
		e   client.Exit
		err error
	}
	done := make(chan result)
	go func() {
		e, err := other.Wait(f.ctx(), "a")
		done <- result{e, err}
	}()
	if err := f.Signal(f.ctx(), "a", syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got.err != nil && !errors.Is(got.err, containerizer.ErrNotFound) || got.err == nil && got.e.Status.Signal() != syscall.SIGUSR1 {
		t.Errorf("wait: %+v", got)
	}
	if _, err := other.Wait(f.ctx(), "nobody"); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("wait for nobody: %v", err)
	}
}
