package cli_test

import (
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pty opens a pseudo-terminal.
func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	return master, slave
}

func localModes(t *testing.T, f *os.File) uint32 {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return s.Lflag
}

// until runs a command again and again until it prints want.
func (n *node) until(want string, args ...string) {
	n.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		got := strings.TrimSpace(n.run(args...).out)
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("berth %s: %q, want %q", strings.Join(args, " "), got, want)
		}
	}
}

func (n *node) ends(results <-chan result) result {
	n.t.Helper()
	select {
	case r := <-results:
		return r
	case <-time.After(20 * time.Second):
		n.t.Fatal("the command does not end")
		return result{}
	}
}

func TestDetachLeavesTheContainerRunning(t *testing.T) {
	n := newNode(t)
	master, slave := pty(t)
	before := localModes(t, slave)
	results := make(chan result, 1)
	go func() { results <- n.runIn(slave, "run", "-it", "--name", "left", "test", "/bin/sleep", "1000") }()
	n.until("running", "inspect", "-f", "{{.State.Status}}", "left")
	for deadline := time.Now().Add(20 * time.Second); localModes(t, slave)&unix.ISIG != 0; {
		if time.Now().After(deadline) {
			t.Fatal("the terminal is not raw while the container runs")
		}
	}
	if _, err := master.WriteString("\x10\x11"); err != nil {
		t.Fatal(err)
	}
	if r := n.ends(results); r.code != 0 || r.err != "" {
		t.Errorf("detached: %+v", r)
	}
	if got := localModes(t, slave); got != before {
		t.Errorf("local modes %#x after detaching, want %#x", got, before)
	}
	if got := n.must("inspect", "-f", "{{.State.Status}} {{.Config.Tty}}", "left"); got != "running true" {
		t.Errorf("the container: %q", got)
	}
}

func TestTerminalIsRestoredAfterFailure(t *testing.T) {
	n := newNode(t)
	_, slave := pty(t)
	before := localModes(t, slave)
	if r := n.runIn(slave, "run", "--rm", "-it", "test", "/no/such"); r.code != 127 {
		t.Errorf("run: %+v", r)
	}
	if got := localModes(t, slave); got != before {
		t.Errorf("local modes %#x after a failure, want %#x", got, before)
	}
}

func TestSignalsGoToTheContainer(t *testing.T) {
	n := newNode(t)
	spare := make(chan os.Signal, 1) // so that a signal that comes too early does not end this process
	signal.Notify(spare, syscall.SIGUSR1)
	defer signal.Stop(spare)
	results := make(chan result, 1)
	go func() { results <- n.run("run", "--name", "sig", "test", "/bin/sleep", "1000") }()
	n.until("running", "inspect", "-f", "{{.State.Status}}", "sig")
	for deadline := time.Now().Add(20 * time.Second); ; {
		if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		if n.must("inspect", "-f", "{{.State.Status}}", "sig") == "exited" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the signal does not reach the container")
		}
	}
	if r := n.ends(results); r.code != 128+int(syscall.SIGUSR1) {
		t.Errorf("run: %+v", r)
	}
}
