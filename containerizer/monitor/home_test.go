package monitor_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/monitor/client"
)

// spawned is a monitor without a home, and a descriptor of its process.
func spawned(t *testing.T, o client.Options) (c *client.Client, pidfd int) {
	t.Helper()
	c, err := client.Spawn(binary, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	pid, err := c.MonitorPID(contextOf(t))
	if err != nil {
		t.Fatal(err)
	}
	if pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeFD(pidfd) })
	return c, pidfd
}

// A monitor may be started before its container exists.
func TestHomeComesLater(t *testing.T) {
	c, pidfd := spawned(t, client.Options{})
	dir := t.TempDir()
	r := request(t, "a", "true", dir, options{})
	if _, err := c.Launch(contextOf(t), r); !errors.Is(err, containerizer.ErrFailedPrecondition) {
		t.Errorf("launch without a home: %v", err)
	}
	if err := c.Enter(dir, ""); err != nil {
		t.Fatal(err)
	}
	p, err := c.Launch(contextOf(t), request(t, "a", "sleep 100", dir, options{}))
	if err != nil {
		t.Fatal(err)
	}
	other, err := client.Dial(dir)
	if err != nil {
		t.Fatalf("dial by the directory that came later: %v", err)
	}
	defer closeIt(other)
	if err := other.Shutdown(contextOf(t), true); err != nil {
		t.Error(err)
	}
	if e, err := p.Wait(contextOf(t)); err != nil || !e.Status.Signaled() {
		t.Errorf("process: %+v, %v", e, err)
	}
	if !ended(pidfd) {
		t.Error("the monitor did not end")
	}
}

// Nobody can move a monitor, or give it anything else for a home.
func TestHomeComesOnce(t *testing.T) {
	f := start(t, client.Options{})
	elsewhere := t.TempDir()
	if err := f.Enter(elsewhere, ""); err != nil {
		t.Fatal(err)
	}
	p := f.launch(request(t, "a", "sleep 100", f.dir, options{}))
	if c, err := client.Dial(elsewhere); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("dial in a second home: %v, %v", c, err)
	}
	if err := f.Signal(f.ctx(), p.Name, unix.SIGKILL); err != nil {
		t.Error(err)
	}
}

// Without a home there was no container, and nothing to tear down.
func TestNoHomeNoExitCommand(t *testing.T) {
	command, path := marker(t)
	c, pidfd := spawned(t, client.Options{ExitCommand: command})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if !ended(pidfd) {
		t.Fatal("the monitor did not end with its client")
	}
	if exists(path) {
		t.Error("the exit command was executed")
	}
}

// What the exit command still lacks comes with the home, and ps shows it.
func TestLateArgument(t *testing.T) {
	command, path := marker(t)
	if len(path) > client.MaxLate {
		t.Skipf("%q is too long", path)
	}
	c, pidfd := spawned(t, client.Options{ExitCommand: command[:len(command)-1], Late: true})
	dir := t.TempDir()
	if err := c.Enter(dir, strings.Repeat("x", client.MaxLate+1)); !errors.Is(err, containerizer.ErrInvalid) {
		t.Errorf("enter with an argument that is too long: %v", err)
	}
	if err := c.Enter(dir, path); err != nil {
		t.Fatal(err)
	}
	pid, err := c.MonitorPID(contextOf(t))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "command line with "+path, func() bool {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return strings.HasSuffix(strings.TrimRight(string(line), "\x00"), "\x00"+path)
	})
	if _, err := c.Launch(contextOf(t), request(t, "a", "true", dir, options{})); err != nil {
		t.Fatal(err)
	}
	eventually(t, "exit command", func() bool { return exists(path) })
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if !ended(pidfd) {
		t.Error("the monitor did not end")
	}
}

// A monitor that has its whole exit command takes nothing more for it.
func TestLateArgumentIsRefused(t *testing.T) {
	command, _ := marker(t)
	c, _ := spawned(t, client.Options{ExitCommand: command})
	dir := t.TempDir()
	if err := c.Enter(dir, "more"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Launch(contextOf(t), request(t, "a", "true", dir, options{})); !errors.Is(err, containerizer.ErrFailedPrecondition) {
		t.Errorf("launch after it: %v", err)
	}
}
