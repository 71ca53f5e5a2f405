package e2e_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestDetached(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	id := n.detached(nil, "sh", "-c", "echo one; echo two >&2; exec sleep 1000")
	eventually(t, func() string {
		r := n.berth("logs", id)
		if r.stdout != "one\n" || r.stderr != "two\n" {
			return fmt.Sprintf("logs: %q and %q", r.stdout, r.stderr)
		}
		return ""
	})
	if got := n.must("ps", "-q", "--no-trunc"); got != id {
		t.Errorf("ps -q shows %q, want %q", got, id)
	}
	if got := n.inspect(id, "{{.State.Status}} {{.State.Running}}"); got != "running true" {
		t.Errorf("state %q", got)
	}
	if got := n.must("top", id); !strings.Contains(got, "sleep 1000") {
		t.Errorf("top shows %q", got)
	}
	n.must("rm", "-f", id)
	if got := n.must("ps", "-aq"); got != "" {
		t.Errorf("after rm -f ps -a shows %q", got)
	}
	if r := n.berth("inspect", id); r.code == 0 {
		t.Error("inspect knows the removed container")
	}
}

func TestDetachedAndRemovedByItself(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	id := n.must(n.run([]string{"-d", "--rm", "-v", "/anonymous"}, "touch", "/anonymous/file")...)
	// Nobody asks for it: the search for leftovers at the end is what matters, and
	// this list, which must not be what cleans up.
	eventually(t, func() string {
		if left := n.leaks(); len(left) > 0 {
			return strings.Join(left, "\n")
		}
		return ""
	})
	if got := n.must("ps", "-aq", "--no-trunc"); got != "" {
		t.Errorf("ps -a shows %q (started %q)", got, id)
	}
	if got := n.must("volume", "ls", "-q"); got != "" {
		t.Errorf("volume ls shows %q", got)
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	id := n.detached([]string{"-e", "FROM=container", "-w", "/tmp", "--memory", "64m"}, "sleep", "1000")
	for _, c := range []struct {
		name   string
		args   []string
		input  string
		want   string
		stderr string
		code   int
	}{
		{name: "environment and directory", args: []string{id, "sh", "-c", "echo $FROM; pwd"}, want: "container\n/tmp\n"},
		{name: "own environment", args: []string{"-e", "MORE=x", id, "sh", "-c", "echo $MORE"}, want: "x\n"},
		{name: "user", args: []string{"-u", "app", id, "id", "-un"}, want: "app\n"},
		{name: "own directory", args: []string{"-w", "/etc", id, "pwd"}, want: "/etc\n"},
		{name: "exit status", args: []string{id, "sh", "-c", "exit 9"}, code: 9},
		{name: "input", args: []string{"-i", id, "cat"}, input: "in", want: "in"},
		{name: "missing command", args: []string{id, "nosuch"}, code: 127, stderr: "nosuch"},
		{name: "not executable", args: []string{id, "/etc/passwd"}, code: 126, stderr: "/etc/passwd"},
		{name: "same processes", args: []string{id, "sh", "-c", "ps | grep -c 'sleep 1000$'"}, want: "1\n"},
		{name: "same confinement", args: []string{id, "sh", "-c", "grep -c -e '^Seccomp:.2' -e 'CapEff:.00000000a80425fb' /proc/self/status"}, want: "2\n"},
		{name: "same limits", args: []string{id, "cat", group("memory/memory.limit_in_bytes", "memory.max")}, want: "67108864\n"},
		{name: "unknown container", args: []string{"nobody", "true"}, code: 125, stderr: "nobody"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := *n
			in.t = t
			r := in.with(c.input, append([]string{"exec"}, c.args...)...)
			if r.stdout != c.want || r.code != c.code || !strings.Contains(r.stderr, c.stderr) || c.stderr == "" && r.stderr != "" {
				t.Errorf("got %+v, want output %q, exit status %d, error with %q", r, c.want, c.code, c.stderr)
			}
		})
	}
}

func TestExecIntoUserNamespace(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	id := n.detached([]string{"--userns", "private"}, "sleep", "1000")
	want := n.must("exec", id, "readlink", "/proc/1/ns/user")
	if got := n.must("exec", id, "readlink", "/proc/self/ns/user"); got != want || got == namespace("user") {
		t.Errorf("exec is in %s, the container in %s, the host in %s", got, want, namespace("user"))
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	polite := n.detached([]string{"--name", "polite"}, "sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done")
	eventually(t, func() string { return unless(n.must("logs", polite) == "ready", "not ready") })
	n.must("stop", polite)
	if got := n.inspect(polite, "{{.State.Status}} {{.State.ExitCode}}"); got != "exited 3" {
		t.Errorf("after stop: %q", got)
	}
	stubborn := n.detached([]string{"--stop-timeout", "1"}, "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
	eventually(t, func() string { return unless(n.must("logs", stubborn) == "ready", "not ready") })
	n.must("stop", stubborn)
	if got := n.inspect(stubborn, "{{.State.ExitCode}}"); got != "137" {
		t.Errorf("after the time-out: exit status %s", got)
	}
	// A stopped container can be started again.
	n.must("start", polite)
	eventually(t, func() string {
		return unless(n.inspect(polite, "{{.State.Status}}") == "running", "not running again")
	})
	n.must("restart", "-t", "1", polite)
	if got := n.inspect(polite, "{{.State.Status}}"); got != "running" {
		t.Errorf("after restart: %q", got)
	}
}

// unless returns complaint when ok is false.
func unless(ok bool, complaint string) string {
	if ok {
		return ""
	}
	return complaint
}

func TestSignals(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	id := n.detached(nil, "sh", "-c", "trap 'echo hup' HUP; echo ready; while :; do sleep 0.05; done")
	eventually(t, func() string { return unless(n.must("logs", id) == "ready", "not ready") })
	n.must("kill", "-s", "HUP", id)
	eventually(t, func() string { return unless(n.must("logs", id) == "ready\nhup", "no signal") })
	n.must("kill", id)
	if got := n.must("wait", id); got != "137" {
		t.Errorf("wait prints %q", got)
	}
	if r := n.berth("kill", id); r.code == 0 || !strings.Contains(r.stderr, "exited") {
		t.Errorf("kill of an ended container: %+v", r)
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	id := n.detached(nil, "sh", "-c", "while :; do echo tick; sleep 0.02; done")
	n.must("pause", id)
	if got := n.inspect(id, "{{.State.Status}}"); got != "paused" {
		t.Errorf("state %q", got)
	}
	if r := n.berth("exec", id, "true"); r.code == 0 {
		t.Error("exec worked in a paused container")
	}
	before := n.must("logs", id)
	n.must("unpause", id)
	eventually(t, func() string { return unless(len(n.must("logs", id)) > len(before), "no output after unpause") })
	// A paused container can be removed.
	n.must("pause", id)
	n.must("rm", "-f", id)
}

func TestCreateAndStart(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	id := n.must(append([]string{"create"}, n.run(nil, "sh", "-c", "echo hello; exit 4")[1:]...)...)
	if got := n.inspect(id, "{{.State.Status}}"); got != "created" {
		t.Errorf("after create: %q", got)
	}
	if r := n.berth("start", "-a", id); r.stdout != "hello\n" || r.code != 4 {
		t.Errorf("start -a: %+v", r)
	}
	n.must("rm", id)
}

func TestLogsOfMany(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	id := n.detached(nil, "sh", "-c", "seq 1 20000")
	n.must("wait", id)
	got := n.must("logs", id)
	if lines := strings.Split(got, "\n"); len(lines) != 20000 || lines[19999] != "20000" {
		t.Errorf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
	if got := n.must("logs", "--tail", "2", id); got != "19999\n20000" {
		t.Errorf("the last two: %q", got)
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	id := n.detached([]string{"--memory", "64m", "--name", "counted"}, "sleep", "1000")
	got := n.must("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}", id)
	if !strings.HasPrefix(got, "counted 1 ") || !strings.Contains(got, "64MiB") {
		t.Errorf("stats: %q", got)
	}
}

// What a removed container wrote takes no space for long, also when nothing else is
// run on the node.
func TestRemovedFilesFreeTheirSpace(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.sh("head -c 40000000 /dev/urandom > /file")
	eventually(t, func() string {
		out, err := exec.CommandContext(t.Context(), "du", "-sm", filepath.Join(n.dir, "root")).Output()
		if err != nil {
			return err.Error()
		}
		megabytes, err := strconv.Atoi(strings.Fields(string(out))[0])
		if err != nil {
			return err.Error()
		}
		return unless(megabytes < 20, fmt.Sprintf("root takes %d MB", megabytes))
	})
}
