package monitor_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/monitor/client"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// marker is an exit command that leaves a file with what it finds.
func marker(tb testing.TB) (command []string, path string) {
	tb.Helper()
	path = filepath.Join(tb.TempDir(), "torn-down")
	script := `{ echo pid=$$; env; cat /proc/self/status; ls -l /proc/self/fd; pwd; } > "$0.new"; mv "$0.new" "$0"`
	return []string{"/bin/sh", "-c", script, path}, path
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestExitCommand(t *testing.T) {
	command, path := marker(t)
	f := start(t, client.Options{ExitCommand: command, Env: []string{"PATH=/bin:/usr/bin", "LAST=words"}})
	f.launch(request(t, "a", "exit 3", f.dir, options{}))
	eventually(t, "exit command", func() bool { return exists(path) })
	b, _ := os.ReadFile(path)
	text := string(b)
	for _, want := range []string{
		fmt.Sprintf("pid=%d\n", f.pid), // in place of the monitor: nothing is left behind
		"LAST=words\n", "SigIgn:\t0000000000000000\n", "SigBlk:\t0000000000000000\n", "\n/\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("exit command found %q, want %q", text, want)
		}
	}
	for _, bad := range []string{"GOMAXPROCS", "GOGC", "socket:", "epoll", "memfd", "pidfd"} {
		if strings.Contains(text, bad) {
			t.Errorf("exit command found %q in %q", bad, text)
		}
	}
	if rec, ok := exitRecord(t, f.dir); !ok || rec.WaitStatus != 3<<8 {
		t.Errorf("exit record %+v", rec)
	}
}

// Clients that are attached when the monitor goes get all output and the exit.
func TestExitCommandComesAfterClients(t *testing.T) {
	command, path := marker(t)
	f := start(t, client.Options{ExitCommand: command})
	r := request(t, "a", "seq 10000; exit 3", f.dir, options{})
	jam := newStuck()
	r.IO = &containerizer.IO{Stdout: jam}
	p := f.launch(r)
	<-jam.hit
	f.status(p, 3)
	eventually(t, "exit command", func() bool { return exists(path) })
	close(jam.release)
	if err := p.Session().Wait(); err != nil || jam.n != 48894 {
		t.Errorf("%d bytes, %v", jam.n, err)
	}
}

func TestExitCommandIsNotRun(t *testing.T) {
	for name, end := range map[string]func(*fixture, *client.Process) error{
		"shutdown after the exit": func(f *fixture, p *client.Process) error {
			if err := f.Signal(f.ctx(), "a", syscall.SIGKILL); err != nil {
				return err
			}
			if _, err := p.Wait(f.ctx()); err != nil {
				return err
			}
			return f.Shutdown(f.ctx(), false)
		},
		"forced shutdown": func(f *fixture, _ *client.Process) error {
			if err := f.Shutdown(f.ctx(), false); !errors.Is(err, containerizer.ErrFailedPrecondition) {
				return fmt.Errorf("shutdown of a living process: %w", err)
			}
			return f.Shutdown(f.ctx(), true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			command, path := marker(t)
			f := start(t, client.Options{ExitCommand: command})
			r := request(t, "a", "exec sleep 100", f.dir, options{})
			r.TearDown = true
			p := f.launch(r)
			if err := end(f, p); err != nil {
				t.Fatal(err)
			}
			eventually(t, "monitor gone", func() bool { return !alive(f.pid) })
			if exists(path) || alive(p.PID) {
				t.Errorf("exit command run: %v, process alive: %v", exists(path), alive(p.PID))
			}
			if rec, ok := exitRecord(t, f.dir); !ok || rec.WaitStatus != 9 {
				t.Errorf("exit record %+v", rec)
			}
		})
	}
}

func TestPromiseIsBroken(t *testing.T) {
	for _, exitFirst := range []bool{false, true} {
		t.Run(fmt.Sprint("after the exit ", exitFirst), func(t *testing.T) {
			command, path := marker(t)
			f := start(t, client.Options{ExitCommand: command})
			r := request(t, "a", "exec sleep 0.2", f.dir, options{})
			r.TearDown = true
			p := f.launch(r)
			if exitFirst {
				f.status(p, 0)
			}
			if exists(path) {
				t.Error("the exit command did not wait for the promise")
			}
			_ = f.Close()
			if !exitFirst && !alive(p.PID) {
				t.Error("the process died with its client")
			}
			eventually(t, "exit command", func() bool { return exists(path) })
			if rec, ok := exitRecord(t, f.dir); !ok || rec.WaitStatus != 0 {
				t.Errorf("exit record %+v, %v", rec, ok)
			}
		})
	}
}

func TestClientLeavesBeforeLaunch(t *testing.T) {
	command, path := marker(t)
	f := start(t, client.Options{ExitCommand: command})
	_ = f.Close()
	eventually(t, "exit command", func() bool { return exists(path) })
}

// A process at the barrier is nothing to anybody but the client that prepares it.
func TestClientLeavesAtBarrier(t *testing.T) {
	command, path := marker(t)
	f := start(t, client.Options{ExitCommand: command})
	p := f.launch(request(t, "a", "exit 0", f.dir, options{barrier: true}))
	_ = f.Close()
	eventually(t, "exit command", func() bool { return exists(path) })
	if alive(p.PID) {
		t.Error("the process lives")
	}
}

func TestHeldOutlivesClient(t *testing.T) {
	command, path := marker(t)
	f := start(t, client.Options{ExitCommand: command})
	p := f.launch(request(t, "a", "exit 0", f.dir, options{hold: true}))
	_ = f.Close()
	other, err := client.Dial(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer closeIt(other)
	if !alive(p.PID) || exists(path) {
		t.Fatal("the held process died with its client")
	}
	started, err := other.Release(f.ctx(), "a", false)
	if err != nil {
		t.Fatal(err)
	}
	f.status(started, 0)
	eventually(t, "exit command", func() bool { return exists(path) })
}

// The other processes of the monitor end with its root, and are recorded.
func TestRootTakesChildrenAlong(t *testing.T) {
	command, path := marker(t)
	f := start(t, client.Options{ExitCommand: command})
	child := t.TempDir()
	f.launch(request(t, "a", "exec sleep 100", f.dir, options{}))
	p := f.launch(request(t, "a.b", "exec sleep 100", child, options{}))
	e := request(t, "a.e", "exec sleep 100", "", options{})
	e.Exec = true
	session := f.launch(e)
	if err := f.Signal(f.ctx(), "a", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*client.Process{p, session} {
		if e := f.exit(p); e.Status.Signal() != syscall.SIGKILL {
			t.Errorf("%s: status %#x", p.Name, e.Status)
		}
	}
	eventually(t, "exit command", func() bool { return exists(path) })
	if rec, ok := exitRecord(t, child); !ok || rec.WaitStatus != 9 {
		t.Errorf("exit record of the child %+v", rec)
	}
}

func TestMonitorSurvivesSignals(t *testing.T) {
	f := start(t, client.Options{})
	p := f.launch(request(t, "a", "exec sleep 100", f.dir, options{}))
	for _, s := range []syscall.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGPIPE, syscall.SIGALRM, syscall.SIGXFSZ, syscall.SIGXCPU, syscall.SIGIO, syscall.SIGCHLD,
	} {
		if err := syscall.Kill(f.pid, s); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := f.List(f.ctx()); err != nil || len(list) != 1 || !alive(p.PID) {
		t.Errorf("after the signals: %+v, %v", list, err)
	}
}

// A killed monitor takes nothing along but its own knowledge.
func TestMonitorIsKilled(t *testing.T) {
	f := start(t, client.Options{})
	r := request(t, "a", "exec sleep 100", f.dir, options{})
	r.IO, _, _ = streams(nil)
	p := f.launch(r)
	other, err := client.Dial(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer closeIt(other)
	kill(t, f.pid)
	if _, err := p.Wait(f.ctx()); !errors.Is(err, containerizer.ErrUnavailable) {
		t.Errorf("wait: %v", err)
	}
	if err := p.Session().Wait(); !errors.Is(err, containerizer.ErrUnavailable) {
		t.Errorf("session: %v", err)
	}
	<-other.Done()
	if !alive(p.PID) {
		t.Error("the process died with its monitor")
	}
	defer kill(t, p.PID)
	eventually(t, "monitor gone", func() bool { return !alive(f.pid) })
	rec, ok := processRecord(t, f.dir)
	if _, exited := exitRecord(t, f.dir); exited || !ok || rec.PID != uint64(p.PID) {
		t.Errorf("records: process %+v, exited %v", rec, exited)
	}
	if _, err := client.Dial(f.dir); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("dial: %v", err)
	}
	// The next monitor takes the directory over.
	again, err := client.Start(binary, f.dir, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeIt(again)
	q, err := again.Launch(f.ctx(), request(t, "a", "exit 4", f.dir, options{}))
	if err != nil {
		t.Fatal(err)
	}
	if e, err := q.Wait(f.ctx()); err != nil || e.Status.ExitStatus() != 4 {
		t.Errorf("second monitor: %+v, %v", e, err)
	}
}

func TestMonitorCannotBeStarted(t *testing.T) {
	c, err := client.Start("/no/such/berth-monitor", t.TempDir(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeIt(c)
	_, err = c.Launch(contextOf(t), request(t, "a", "true", "", options{}))
	if err == nil {
		t.Fatal("launched without a monitor")
	}
	if _, err := c.MonitorPID(contextOf(t)); err == nil || !strings.Contains(err.Error(), "/no/such/berth-monitor") {
		t.Errorf("monitor pid: %v", err)
	}
	if _, err := client.Start(binary, "/no/such/dir", client.Options{}); !errors.Is(err, unix.ENOENT) {
		t.Errorf("start in a missing directory: %v", err)
	}
	if _, err := client.Start(binary, t.TempDir(), client.Options{ExitCommand: []string{"relative"}}); !errors.Is(err, containerizer.ErrInvalid) {
		t.Errorf("start with a relative exit command: %v", err)
	}
}

// crashClient is the environment variable that makes the test binary a client.
const crashClient = "BERTH_TEST_CRASH_CLIENT"

// TestCrashClient is the client that TestClientIsKilled kills.
func TestCrashClient(t *testing.T) {
	dir := os.Getenv(crashClient)
	if dir == "" {
		return // a test of its own only for TestClientIsKilled
	}
	c, err := client.Start(os.Getenv(crashClient+"_BINARY"), dir, client.Options{
		ExitCommand: []string{"/bin/touch", filepath.Join(dir, "torn-down")},
	})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("started")
	r := request(t, "a", "echo "+dir+"; sleep 0.1", dir, options{barrier: true})
	r.TearDown = true
	r.IO, _, _ = streams(nil)
	p, err := c.Launch(context.Background(), r)
	if err == nil {
		_, err = c.Release(context.Background(), "a", true)
	}
	if err == nil {
		_, err = p.Wait(context.Background())
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "torn-down"), nil, 0o600)
	}
	if err == nil {
		err = c.Shutdown(context.Background(), false)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Whenever the client is killed, the container is torn down in the end and
// nothing is left.
func TestClientIsKilled(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		dir := t.TempDir()
		cmd := exec.CommandContext(contextOf(t), self, "-test.run=^TestCrashClient$")
		cmd.Env = append(os.Environ(), crashClient+"="+dir, crashClient+"_BINARY="+binary)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 64)); err != nil { // "started"
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 400 * time.Microsecond) // the moment is what is tested
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		eventually(t, "processes gone", func() bool { return len(mentioning(dir)) == 0 })
		if _, launched := processRecord(t, dir); launched {
			eventually(t, "tear-down", func() bool { return exists(filepath.Join(dir, "torn-down")) })
		}
		if exists(filepath.Join(dir, wire.SocketName)) {
			t.Errorf("killed after %d steps: the socket is left", i)
		}
	}
}

// mentioning lists the processes that have text in their command line.
func mentioning(text string) (pids []string) {
	list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range list {
		if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), text) {
			pids = append(pids, path)
		}
	}
	return pids
}

// Whenever the monitor is killed, every request of its client ends, and a process
// that had not reached its execve goes.
func TestMonitorIsKilledAnytime(t *testing.T) {
	for i := range 60 {
		dir := t.TempDir()
		c, err := client.Start(binary, dir, client.Options{ExitCommand: []string{"/bin/touch", filepath.Join(dir, "torn-down")}})
		if err != nil {
			t.Fatal(err)
		}
		pid, err := c.MonitorPID(contextOf(t))
		if err != nil {
			t.Fatal(err)
		}
		killed := make(chan struct{})
		time.AfterFunc(time.Duration(i)*100*time.Microsecond, func() { // the moment is what is tested
			_ = syscall.Kill(pid, syscall.SIGKILL)
			close(killed)
		})
		r := request(t, "a", "echo "+dir+"; sleep 0.05", dir, options{barrier: true})
		r.IO, _, _ = streams(nil)
		p, err := c.Launch(contextOf(t), r)
		if err == nil {
			_, err = c.Release(contextOf(t), "a", true)
			if sessionErr := p.Session().Wait(); sessionErr != nil && !errors.Is(sessionErr, containerizer.ErrUnavailable) {
				t.Errorf("session: %v", sessionErr)
			}
		}
		if err == nil {
			_, err = p.Wait(contextOf(t))
		}
		if err != nil && !errors.Is(err, containerizer.ErrUnavailable) && !errors.Is(err, containerizer.ErrNotFound) {
			t.Errorf("killed after %d steps: %v", i, err)
		}
		<-killed
		_ = c.Close()
		eventually(t, "processes gone", func() bool { return len(mentioning(dir)) == 0 })
	}
}

// A client that serves many processes keeps nothing of those that have ended.
func TestClientForgets(t *testing.T) {
	f := running(t)
	ctx, cancel := context.WithTimeout(t.Context(), 15*timeout) // it is 300 launches
	defer cancel()
	goroutines := runtime.NumGoroutine()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	block := encode(t, "echo x; cat", options{})
	for i := range 300 {
		fd, err := unix.MemfdCreate("program", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(fd, block); err != nil {
			t.Fatal(err)
		}
		r := &client.LaunchRequest{Name: fmt.Sprint("e", i), Program: fd, ProgramSize: len(block), Exec: true, Stdin: wire.StdinOnce}
		r.IO = &containerizer.IO{Stdin: strings.NewReader("y\n"), Stdout: io.Discard}
		p, err := f.Launch(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		closeFD(fd)
		if _, err := p.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		if err := p.Session().Wait(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "goroutines ended", func() bool { return runtime.NumGoroutine() <= goroutines })
	runtime.GC()
	runtime.ReadMemStats(&after)
	if after.HeapAlloc > before.HeapAlloc+128<<10 {
		t.Errorf("the client's heap grew from %d to %d bytes", before.HeapAlloc, after.HeapAlloc)
	}
	f.well(t)
}

// A held process has nothing open that others wait for the end of.
func TestHeldKeepsNothingOpen(t *testing.T) {
	f := start(t, client.Options{})
	root := request(t, "a", "cat; echo end; exec sleep 1000", "", options{})
	root.Stdin = wire.StdinOnce
	in, w := pipe(t)
	var out *output
	root.IO, out, _ = streams(in)
	running := f.launch(root)
	defer kill(t, running.PID)
	held := f.launch(request(t, "a.b", "exit 0", "", options{hold: true}))
	_ = w.Close()
	out.await(t, "end\n") // the end of its input came through
	p := connect(t, f.dir)
	kill(t, f.pid)
	<-f.Done()
	if _, _, ok := p.hear(); ok {
		t.Error("a connection outlives the monitor")
	}
	if _, err := client.Dial(f.dir); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("dial: %v", err)
	}
	eventually(t, "held process gone", func() bool { return !alive(held.PID) })
}
