package interp_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer/launch/interp"
	"github.com/berth-dev/berth/containerizer/launch/program"
)

// load puts the program of b into a memfd and loads it.
func load(tb testing.TB, b *program.Builder) *interp.Image {
	tb.Helper()
	block, err := b.Encode()
	if err != nil {
		tb.Fatalf("encode: %v", err)
	}
	fd, err := unix.MemfdCreate("program", unix.MFD_CLOEXEC)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if _, err := unix.Write(fd, block); err != nil {
		tb.Fatal(err)
	}
	im, err := interp.Load(fd, len(block))
	if err != nil {
		tb.Fatalf("load: %v", err)
	}
	tb.Cleanup(func() { _ = im.Close() })
	return im
}

// next waits for news of the child.
func next(tb testing.TB, c *interp.Child) (interp.Progress, program.Failure) {
	tb.Helper()
	for {
		fds := []unix.PollFd{{Fd: int32(c.ProgressFD()), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 20000)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			tb.Fatalf("no progress: %v", err)
		}
		if p, f := c.Progress(); p != interp.ProgressPending {
			return p, f
		}
	}
}

// reap returns the wait status of the child and closes it.
func reap(tb testing.TB, c *interp.Child) syscall.WaitStatus {
	tb.Helper()
	var ws syscall.WaitStatus
	for {
		_, err := syscall.Wait4(c.PID, &ws, syscall.WALL, nil)
		if err == nil {
			break
		}
		if err != syscall.EINTR {
			tb.Fatalf("wait for %d: %v", c.PID, err)
		}
	}
	_ = c.Close()
	return ws
}

// execSh adds what ends a program: the shell command line.
func execSh(b *program.Builder, line string) {
	b.Call(unix.SYS_RT_SIGPROCMASK, 2, b.Words(0), 0, 8)
	b.Call(unix.SYS_EXECVE, b.Text("/bin/sh"), b.Strings([]string{"sh", "-c", line}), b.Strings([]string{"PATH=/bin:/usr/bin"}))
}

func TestExitStatus(t *testing.T) {
	var b program.Builder
	execSh(&b, "exit 7")
	c, err := load(t, &b).Spawn(nil)
	if err != nil {
		t.Fatal(err)
	}
	if p, f := next(t, c); p != interp.ProgressRunning {
		t.Errorf("progress %v %+v, want running", p, f)
	}
	if ws := reap(t, c); ws.ExitStatus() != 7 {
		t.Errorf("exit status %d, want 7", ws.ExitStatus())
	}
}

func TestFailureNamesOperationAndErrno(t *testing.T) {
	var b program.Builder
	b.Call(unix.SYS_CHDIR, b.Text("/"))
	b.Call(unix.SYS_CHDIR, b.Text("/nowhere"))
	execSh(&b, "exit 0")
	c, err := load(t, &b).Spawn(nil)
	if err != nil {
		t.Fatal(err)
	}
	p, f := next(t, c)
	if want := (program.Failure{Op: 1, Errno: unix.ENOENT}); p != interp.ProgressFailed || f != want {
		t.Errorf("got %v %+v, want failed %+v", p, f, want)
	}
	reap(t, c)
}

func TestControlFlow(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	var b program.Builder
	in := b.Input()
	result := b.NewSlot()
	word := b.Zeros(8)
	missing := b.Text("/nowhere")
	// A tolerated error leaves out what depends on it.
	b.Call(unix.SYS_CHDIR, missing).Accept(1, unix.ENOENT)
	b.Call(unix.SYS_CHDIR, missing)
	// A result can be stored into the data area and compared.
	b.Call(unix.SYS_DUP, in).To(result)
	b.Call(program.OpStore, word, result)
	b.Call(unix.SYS_WRITE, result, b.Text("hello"), 5).With(program.FlagFull)
	// A jump leaves out what it passes.
	j := b.Jump()
	b.Call(unix.SYS_CHDIR, missing)
	b.Land(j)
	b.Call(program.OpExpect, b.Words(42), 42, int(unix.EXDEV))
	execSh(&b, "exit 3")

	file, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	c, err := load(t, &b).Spawn([]int{int(file.Fd())})
	if err != nil {
		t.Fatal(err)
	}
	if p, f := next(t, c); p != interp.ProgressRunning {
		t.Errorf("progress %v %+v, want running", p, f)
	}
	if ws := reap(t, c); ws.ExitStatus() != 3 {
		t.Errorf("exit status %d, want 3", ws.ExitStatus())
	}
	if got, _ := os.ReadFile(out); string(got) != "hello" {
		t.Errorf("file holds %q, want %q", got, "hello")
	}
}

func TestExpectAndShortResultFail(t *testing.T) {
	var expect, short program.Builder
	expect.Call(program.OpExpect, expect.Words(41), 42, int(unix.EXDEV))
	execSh(&expect, "exit 0")
	in := short.Input()
	short.Call(unix.SYS_READ, in, short.Zeros(8), 8).With(program.FlagFull)
	execSh(&short, "exit 0")
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	for _, tt := range []struct {
		name string
		b    *program.Builder
		fds  []int
		want syscall.Errno
	}{{"expect", &expect, nil, unix.EXDEV}, {"short read", &short, []int{int(null.Fd())}, unix.EPIPE}} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := load(t, tt.b).Spawn(tt.fds)
			if err != nil {
				t.Fatal(err)
			}
			if p, f := next(t, c); p != interp.ProgressFailed || f.Errno != tt.want {
				t.Errorf("got %v %+v, want failure %v", p, f, tt.want)
			}
			reap(t, c)
		})
	}
}

func TestBarriers(t *testing.T) {
	var b program.Builder
	message, answer := b.Text("BH"), b.Zeros(1)
	for i := range 2 {
		b.Call(unix.SYS_WRITE, program.Progress, message+program.Data(i), 1).With(program.FlagFull)
		b.Call(unix.SYS_READ, program.Progress, answer, 1).With(program.FlagFull)
	}
	b.Call(unix.SYS_CLOSE_RANGE, 3, int(^uint32(0)), unix.CLOSE_RANGE_CLOEXEC)
	execSh(&b, "exit 0")
	c, err := load(t, &b).Spawn(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []interp.Progress{interp.ProgressBarrier, interp.ProgressHeld} {
		if p, f := next(t, c); p != want {
			t.Fatalf("progress %v %+v, want %v", p, f, want)
		}
		if p, _ := c.Progress(); p != interp.ProgressPending {
			t.Fatalf("progress %v before the release", p)
		}
		if err := c.Release(); err != nil {
			t.Fatal(err)
		}
	}
	if p, f := next(t, c); p != interp.ProgressRunning {
		t.Errorf("progress %v %+v, want running", p, f)
	}
	reap(t, c)
}

// A child that waits keeps its inputs open and nothing else of the parent's.
func TestChildClosesWhatIsNotItsOwn(t *testing.T) {
	var b program.Builder
	first, second := b.Input(), b.Input()
	b.Input()
	b.Call(unix.SYS_WRITE, program.Progress, b.Text("B"), 1).With(program.FlagFull)
	b.Call(unix.SYS_READ, program.Progress, b.Zeros(1), 1).With(program.FlagFull)
	b.Call(unix.SYS_DUP3, first, 1, 0)
	b.Call(unix.SYS_DUP3, second, 2, 0)
	execSh(&b, "exit 0")
	var pipes [40][2]int
	for i := range pipes {
		if err := unix.Pipe2(pipes[i][:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer closeBoth(pipes[i])
	}
	// Out of order, adjacent, and none at all.
	inputs := []int{pipes[30][1], pipes[30][0], -1}
	c, err := load(t, &b).Spawn(inputs)
	if err != nil {
		t.Fatal(err)
	}
	if p, f := next(t, c); p != interp.ProgressBarrier {
		t.Fatalf("progress %v %+v, want the barrier", p, f)
	}
	list, err := os.ReadDir("/proc/" + strconv.Itoa(c.PID) + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range list {
		fd, _ := strconv.Atoi(entry.Name())
		target, _ := os.Readlink("/proc/" + strconv.Itoa(c.PID) + "/fd/" + entry.Name())
		if fd > 2 && fd != inputs[0] && fd != inputs[1] && target[:min(7, len(target))] != "socket:" {
			t.Errorf("the child has %d open, %s", fd, target)
		}
	}
	if n := len(list); n != 3+2+1 {
		t.Errorf("the child has %d descriptors open, want 6", n)
	}
	// The parent's death is the end of the wait.
	_ = unix.Close(c.ProgressFD())
	if ws := wait(t, c.PID); ws.Exited() && ws.ExitStatus() == 0 {
		t.Errorf("status %#x", ws)
	}
}

func closeBoth(pipe [2]int) { _, _ = unix.Close(pipe[0]), unix.Close(pipe[1]) }

// wait reaps a process.
func wait(tb testing.TB, pid int) (ws syscall.WaitStatus) {
	tb.Helper()
	for {
		_, err := syscall.Wait4(pid, &ws, syscall.WALL, nil)
		if err == nil {
			return ws
		}
		if err != syscall.EINTR {
			tb.Fatal(err)
		}
	}
}

func TestKilledChildIsAFailure(t *testing.T) {
	var b program.Builder
	b.Call(unix.SYS_READ, program.Progress, b.Zeros(1), 1)
	execSh(&b, "exit 0")
	c, err := load(t, &b).Spawn(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.PidfdSendSignal(c.PidFD, unix.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	if p, f := next(t, c); p != interp.ProgressFailed || f.Op != interp.KilledOp {
		t.Errorf("got %v %+v, want a killed child", p, f)
	}
	reap(t, c)
}

func TestStagedPidAndUserNamespace(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	out := filepath.Join(t.TempDir(), "out")
	file, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var b program.Builder
	in := b.Input()
	b.Staged()
	b.IDMaps("0 100000 65536\n", "0 200000 65536\n")
	b.Call(program.OpSpawn, unix.CLONE_NEWUSER|unix.CLONE_NEWPID|unix.CLONE_NEWNS)
	b.Call(unix.SYS_READ, program.Progress, b.Zeros(1), 1).With(program.FlagFull)
	b.Call(unix.SYS_SETRESGID, 0, 0, 0)
	b.Call(unix.SYS_SETRESUID, 0, 0, 0)
	b.Call(unix.SYS_DUP3, in, 1, 0)
	execSh(&b, "echo $$ $(id -u) $(id -g); cat /proc/self/uid_map")
	c, err := load(t, &b).Spawn([]int{int(file.Fd())})
	if err != nil {
		t.Fatal(err)
	}
	if p, f := next(t, c); p != interp.ProgressRunning {
		t.Fatalf("progress %v %+v, want running", p, f)
	}
	if ws := reap(t, c); ws.ExitStatus() != 0 {
		t.Errorf("exit status %d", ws.ExitStatus())
	}
	got, _ := os.ReadFile(out)
	if want := []byte("1 0 0\n         0     100000      65536\n"); !bytes.Equal(got, want) {
		t.Errorf("container says %q, want %q", got, want)
	}
}

func TestStagedFailureBeforeSpawn(t *testing.T) {
	var b program.Builder
	b.Staged()
	b.Call(unix.SYS_CHDIR, b.Text("/nowhere"))
	b.Call(program.OpSpawn, 0)
	execSh(&b, "exit 0")
	_, err := load(t, &b).Spawn(nil)
	var stage *interp.StageError
	if !errors.As(err, &stage) || stage.Failure != (program.Failure{Op: 0, Errno: unix.ENOENT}) {
		t.Errorf("spawn: %v, want failure of operation 0", err)
	}
}

func TestPty(t *testing.T) {
	var b program.Builder
	master, slave := b.NewSlot(), b.NewSlot()
	b.Call(unix.SYS_OPENAT, unix.AT_FDCWD, b.Text("/dev/ptmx"), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0).To(master)
	b.Call(unix.SYS_IOCTL, master, unix.TIOCSPTLCK, b.Zeros(4))
	b.Call(unix.SYS_IOCTL, master, unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY).To(slave)
	SendPty(&b, master)
	b.Call(unix.SYS_SETSID)
	b.Call(unix.SYS_IOCTL, slave, unix.TIOCSCTTY, 0)
	for fd := range 3 {
		b.Call(unix.SYS_DUP3, slave, fd, 0).Accept(0, unix.EINVAL)
	}
	b.Call(unix.SYS_CLOSE_RANGE, 3, int(^uint32(0)), unix.CLOSE_RANGE_CLOEXEC)
	execSh(&b, "test -t 0 && echo terminal; read x")
	c, err := load(t, &b).Spawn(nil)
	if err != nil {
		t.Fatal(err)
	}
	if p, f := next(t, c); p != interp.ProgressRunning {
		t.Fatalf("progress %v %+v, want running", p, f)
	}
	if c.Pty < 0 {
		t.Fatal("no pty master arrived")
	}
	pty := os.NewFile(uintptr(c.Pty), "pty")
	buf := make([]byte, 64)
	n, err := pty.Read(buf)
	if want := "terminal\r\n"; string(buf[:n]) != want || err != nil {
		t.Errorf("read %q, %v, want %q", buf[:n], err, want)
	}
	_ = pty.Close() // hangs up
	reap(t, c)
}

// SendPty is what the compiler does for a terminal; see containerizer/launch.
func SendPty(b *program.Builder, master program.Slot) {
	control := b.Words(uint64(unix.CmsgLen(4)), uint64(unix.SOL_SOCKET|unix.SCM_RIGHTS<<32), 0)
	b.Call(program.OpStore, control+16, master)
	iov := b.Words(b.Text("P"), 1)
	message := b.Words(0, 0, iov, 1, control, uint64(unix.CmsgSpace(4)), 0)
	b.Call(unix.SYS_SENDMSG, program.Progress, message, unix.MSG_NOSIGNAL)
}

func TestWrongNumberOfInputs(t *testing.T) {
	var b program.Builder
	b.Input()
	execSh(&b, "exit 0")
	if _, err := load(t, &b).Spawn(nil); err == nil {
		t.Error("spawn without the input: no error")
	}
}

// The child shares memory with a runtime that collects garbage, grows stacks and
// preempts by signal. Nothing of that may reach it.
func TestStressBesideGarbageCollector(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(5))
	stop := make(chan struct{})
	var noise sync.WaitGroup
	for range 4 {
		noise.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = bytes.Repeat([]byte(strconv.Itoa(runtime.NumGoroutine())), 4096)
				}
			}
		})
	}
	deadline := time.Now().Add(3 * time.Second)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for time.Now().Before(deadline) {
				var b program.Builder
				b.Call(unix.SYS_RT_SIGPROCMASK, 2, b.Words(0), 0, 8)
				for range 20 {
					b.Call(unix.SYS_CHDIR, b.Text("/"))
				}
				b.Call(unix.SYS_EXECVE, b.Text("/bin/true"), b.Strings([]string{"true"}), b.Strings(nil))
				c, err := load(t, &b).Spawn(nil)
				if err != nil {
					t.Error(err)
					return
				}
				if p, f := next(t, c); p != interp.ProgressRunning {
					t.Errorf("progress %v %+v", p, f)
				}
				if ws := reap(t, c); ws.ExitStatus() != 0 {
					t.Errorf("status %x", ws)
				}
			}
		})
	}
	workers.Wait()
	close(stop)
	noise.Wait()
}

func BenchmarkSpawn(b *testing.B) {
	for b.Loop() {
		var p program.Builder
		p.Call(unix.SYS_EXECVE, p.Text("/bin/true"), p.Strings([]string{"true"}), p.Strings(nil))
		im := load(b, &p)
		c, err := im.Spawn(nil)
		if err != nil {
			b.Fatal(err)
		}
		next(b, c)
		reap(b, c)
	}
}
