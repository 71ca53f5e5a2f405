package security_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/test/fixtures"
)

// openTerminal makes a pseudo terminal: controller is the end that a person would hold.
func openTerminal(t *testing.T) (controller, tty *os.File) {
	t.Helper()
	controller, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = controller.Close() }) // nothing to be lost
	number, err := unix.IoctlGetInt(int(controller.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(controller.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tty.Close() }) // as above
	return controller, tty
}

// A container types nothing into the terminal of the person who runs it (TIOCSTI,
// CVE-2016-9016 and others).
func TestTerminalIsNotTypedInto(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	rootfs := n.rootfs()
	id := n.start(rootfs, nil, "sleep", "100")
	for name, args := range map[string][]string{
		"run -it":              once(rootfs, []string{"-it"}, "/attack", "inject"),
		"run -i":               once(rootfs, []string{"-i"}, "/attack", "inject"),
		"run":                  once(rootfs, nil, "/attack", "inject"),
		"run with CAP_SYS_TTY": once(rootfs, []string{"-i", "--cap-add", "SYS_TTY_CONFIG"}, "/attack", "inject"),
		"exec -i":              {"exec", "-i", id, "/attack", "inject"},
		"exec -it":             {"exec", "-it", id, "/attack", "inject"},
	} {
		t.Run(name, func(t *testing.T) {
			n := n.in(t)
			_, tty := openTerminal(t)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := n.command(ctx, args...)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
			cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
			if err := cmd.Run(); err != nil {
				t.Errorf("berth: %v", err)
			}
			_ = tty.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // the read says so
			typed := make([]byte, 100)
			if got, err := tty.Read(typed); got > 0 {
				t.Errorf("the container has typed %q, %v", typed[:got], err)
			}
		})
	}
}

// A terminal of an exec session in a container that has put something else in the
// place of ptmx is an error and no hang, and nothing is done to what is there
// (CVE-2025-52565).
func TestReplacedPtmx(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for name, script := range map[string]string{
		"pipe":   "mkfifo /x && mount --bind /x /dev/pts/ptmx",
		"file":   "echo intact > /x && mount --bind /x /dev/pts/ptmx",
		"null":   "mount --bind /dev/null /dev/pts/ptmx",
		"nobody": "umount /dev/pts",
	} {
		t.Run(name, func(t *testing.T) {
			n := n.in(t)
			rootfs := n.rootfs()
			id := n.start(rootfs, []string{"--privileged"}, "sh", "-c", script+" && echo ready; sleep 100")
			eventually(t, func() string {
				if r := n.run("logs", id); r.stdout != "ready" {
					return fmt.Sprintf("the container is not ready: %+v", r)
				}
				return ""
			})
			if r := n.run("exec", "-t", id, "true"); r.code == 0 || !strings.Contains(r.stderr, "terminal") {
				t.Errorf("exec -t: %+v, want an error about the terminal", r)
			}
			if name == "file" {
				if got, err := os.ReadFile(filepath.Join(rootfs, "x")); err != nil || string(got) != "intact\n" {
					t.Errorf("the file in its place is %q, %v", got, err)
				}
			}
			if r := n.run("exec", id, "echo", "alive"); r.stdout != "alive" {
				t.Errorf("exec afterwards: %+v", r)
			}
		})
	}
}

// Output that nobody takes costs neither memory of the monitor (CVE-2022-1708) nor more
// of the disk than the log may have.
func TestOutputIsBounded(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	id := n.start(n.rootfs(), []string{"--log-opt", "max-size=100k", "--log-opt", "max-file=2"}, "sh", "-c", "sleep 1; yes 0123456789012345678901234567890123456789")
	// Clients that never read.
	for range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }() // nothing was written
		cmd := n.command(t.Context(), "attach", "--no-stdin", id)
		cmd.Stdout = w
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_ = w.Close() // the command has it
		defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
	}
	const limit = 24 << 10 // KiB, of which most is text and heap of the Go runtime
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for _, m := range n.monitors() {
			status, _ := os.ReadFile(m + "/status")
			if field := regexp.MustCompile(`VmRSS:\s+(\d+)`).FindSubmatch(status); field != nil {
				if kib, _ := strconv.Atoi(string(field[1])); kib > limit {
					t.Fatalf("the monitor has %d KiB", kib)
				}
			}
		}
	}
	out, err := exec.CommandContext(t.Context(), "find", n.path("root"), n.path("state"), "-name", "*log*", "-type", "f", "-printf", "%s %p\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for line := range strings.Lines(string(out)) {
		size, _ := strconv.Atoi(strings.Fields(line)[0])
		total += size
	}
	if total == 0 || total > 300<<10 {
		t.Errorf("the logs have %d bytes, want at most two of 100 KiB:\n%s", total, out)
	}
}

// A log is never written through a link, and names of images in tables move no cursor.
func TestOutputOfOthers(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	rootfs := n.rootfs(fixtures.File{Path: "bin/\x1b[31mred", Mode: 0o755, Data: []byte("#!/bin/sh\nsleep 100\n")})
	id := n.start(rootfs, []string{"--label", "a=\x1b[2Jgone"}, "/bin/\x1b[31mred")
	for _, args := range [][]string{{"ps"}, {"ps", "--no-trunc"}, {"ps", "-a"}, {"inspect", id}} {
		if r := n.run(args...); r.code != 0 || strings.Contains(r.stdout+r.stderr, "\x1b") {
			t.Errorf("%v prints an escape sequence: %+v", args, r)
		}
	}
}
