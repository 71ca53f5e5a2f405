package e2e_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A client that is killed in the middle of run leaves something that the next command
// shows truthfully and that rm -f or check --repair removes.
func TestKilledClient(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	// Launches take this long here, so every step of one is as likely to be hit.
	begun := time.Now()
	n.must(n.run([]string{"--rm", "-p", "80"}, "true")...)
	launch := time.Since(begun)
	t.Logf("seed %d, a launch takes %s", seed, launch)
	for i := range 40 {
		name := fmt.Sprintf("victim-%d", i)
		cmd := n.command(t.Context(), n.run([]string{"--name", name, "-p", fmt.Sprintf("%d:80", freePort(t))}, "sleep", "1000")...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(random.Int64N(int64(launch)))) // the moment is the point
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
	}
	n.cleanUpAfterFaults()
}

// cleanUpAfterFaults removes what is listed, then repairs, and checks that the node
// still works.
func (n *node) cleanUpAfterFaults() {
	n.t.Helper()
	for id := range strings.FieldsSeq(n.must("ps", "-aq", "--no-trunc")) {
		n.must("rm", "-f", id)
	}
	n.must("system", "check", "--repair")
	if got := n.must("ps", "-aq"); got != "" {
		n.t.Errorf("after repair ps -a shows %q", got)
	}
	if got := n.must("system", "check"); strings.Contains(got, "victim") {
		n.t.Errorf("check still finds %q", got)
	}
	if got := n.sh("echo works"); got != "works" {
		n.t.Errorf("the node says %q", got)
	}
}

func TestKilledMonitor(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for i := range 5 {
		name := fmt.Sprintf("victim-%d", i)
		id := n.must(n.run([]string{"-d", "--name", name}, "sleep", "1000")...)
		pid, err := strconv.Atoi(n.inspect(id, "{{.State.Pid}}"))
		if err != nil {
			t.Fatal(err)
		}
		monitor := parent(t, pid)
		if err := unix.Kill(monitor, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		// Whatever it says, it must not say "running" of a process that is gone, nor
		// hang; and removing must end the process if it lives.
		eventually(t, func() string {
			state := n.inspect(id, "{{.State.Status}}")
			alive := unix.Kill(pid, 0) == nil
			return unless(state == "running" && alive || state != "running" && !alive || state == "exited",
				fmt.Sprintf("state %q, process alive: %v", state, alive))
		})
		n.must("rm", "-f", id)
		eventually(t, func() string { return unless(gone(pid), "the process lives on") })
	}
	n.cleanUpAfterFaults()
}

// parent reads the parent of a process.
func parent(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "PPid:"); ok {
			parent, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil || parent <= 1 {
				t.Fatalf("parent of %d is %q", pid, value)
			}
			return parent
		}
	}
	t.Fatalf("no parent in %q", text)
	return 0
}

// gone tells whether a process has ended; it may wait to be reaped.
func gone(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

// slowCleanup is all that a command says that leaves a teardown to the background.
var slowCleanup = regexp.MustCompile("^berth: leave the rest to the background or the next command after [^:]+: [^\n]+\n$")

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	const many = 64
	results := make([]string, many)
	var group sync.WaitGroup
	for i := range many {
		group.Go(func() {
			cmd := n.command(t.Context(), n.run([]string{"--rm"}, "sh", "-c", fmt.Sprintf("echo %d; exit %d", i, i%3))...)
			var stderr strings.Builder
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			code := 0
			if err != nil {
				code = cmd.ProcessState.ExitCode()
			}
			said := stderr.String()
			if slowCleanup.MatchString(said) { // so many may take a slow machine longer than a command waits
				said = ""
			}
			results[i] = fmt.Sprintf("%s%s%d", out, said, code)
		})
	}
	group.Wait()
	for i, got := range results {
		if want := fmt.Sprintf("%d\n%d", i, i%3); got != want {
			t.Errorf("container %d: got %q, want %q", i, got, want)
		}
	}
}

// A node on a small filesystem of its own: pulls and launches that do not fit say so,
// and leave nothing half-visible.
func TestNoSpace(t *testing.T) {
	t.Parallel()
	need(t, os.Getuid() == 0, "mounting needs root")
	layout, err := busyboxLayout()
	need(t, err == nil, "busybox image: %v", err)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=6m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, func() string { // the last command may be sweeping in the background
			if err := unix.Unmount(dir, 0); err != nil {
				return fmt.Sprintf("unmount the small filesystem: %v", err)
			}
			return ""
		})
	})
	n := bareNode(t, dir)
	n.image = "oci:" + layout + ":busybox"
	t.Cleanup(n.clear)

	ballast := filepath.Join(dir, "ballast")
	fill := func(leave int64) {
		f, err := os.OpenFile(ballast, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close() //nolint:errcheck // writing to it is checked
		size := int64(0)
		for chunk := make([]byte, os.Getpagesize()); err == nil; size += int64(len(chunk)) {
			_, err = f.Write(chunk)
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		if err := f.Truncate(max(0, size-leave)); err != nil {
			t.Fatal(err)
		}
	}
	fill(1 << 20) // the image needs two
	if r := n.berth("pull", "-q", n.image); r.code != 125 || !strings.Contains(r.stderr, "no space left") {
		t.Errorf("pull without space: %+v", r)
	}
	if got := n.must("images", "-q"); got != "" {
		t.Errorf("after the failed pull images shows %q", got)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	n.must("pull", "-q", n.image)
	n.sh("true")
	n.must("system", "prune", "-f") // what the failed pull left would make space
	fill(0)
	if r := n.berth(n.run([]string{"--rm"}, "true")...); r.code != 125 || !strings.Contains(r.stderr, "no space left") {
		t.Errorf("run without space: %+v", r)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if got := n.must("ps", "-aq"); got != "" {
		t.Errorf("after the failed run ps -a shows %q", got)
	}
	if got := n.sh("echo works"); got != "works" {
		t.Errorf("with space again: %q", got)
	}
	if left := append(n.leftProcesses(), n.leftMounts()...); len(left) > 0 {
		t.Errorf("left behind: %s", strings.Join(left, "\n"))
	}
}

// Two nodes that share a machine do not see each other's containers.
func TestNodesAreApart(t *testing.T) {
	t.Parallel()
	one, two := newNode(t), newNode(t)
	id := one.detached([]string{"--name", "mine"}, "sleep", "1000")
	if got := two.must("ps", "-aq"); got != "" {
		t.Errorf("the other node shows %q", got)
	}
	two.berth("rm", "-f", id) // with -f, what is not there is not an error
	two.must("system", "check", "--repair")
	if got := one.inspect("mine", "{{.State.Status}}"); got != "running" {
		t.Errorf("after the other node's repair it is %s", got)
	}
}
