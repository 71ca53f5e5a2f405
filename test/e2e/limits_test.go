package e2e_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// unified tells whether the machine has cgroup v2 only.
func unified() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// group picks the file of a limit by the version of the machine.
func group(v1, v2 string) string {
	if unified() {
		return "/sys/fs/cgroup/" + v2
	}
	return "/sys/fs/cgroup/" + v1
}

func TestLimits(t *testing.T) {
	t.Parallel()
	newNode(t).play(t, []scenario{
		{name: "memory", flags: []string{"--memory", "64m"}, command: []string{"cat", group("memory/memory.limit_in_bytes", "memory.max")}, want: "67108864"},
		{name: "processors", flags: []string{"--cpus", "0.5"}, command: []string{"cat", group("cpu/cpu.cfs_quota_us", "cpu.max")}, want: "50000.*"},
		{name: "processes", flags: []string{"--pids-limit", "5"}, command: sh("for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait"), code: 2, stderr: "[Rr]esource temporarily unavailable|can't fork"},
		{name: "which processors", flags: []string{"--cpuset-cpus", "0"}, command: []string{"nproc"}, want: "1"},
		{name: "within the limit", flags: []string{"--memory", "64m"}, command: sh("head -c 10000000 /dev/zero | tail -c 1 | wc -c"), want: "1"},
	})
}

func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	// tail keeps all it reads while it looks for a newline.
	id := n.detached([]string{"--memory", "16m", "--memory-swap", "16m"}, "sh", "-c", "exec tail -n 1 /dev/zero")
	if got := n.must("wait", id); got != "137" {
		t.Errorf("wait prints %q, want 137", got)
	}
	if got := n.inspect(id, "{{.State.OOMKilled}} {{.State.ExitCode}}"); got != "true 137" {
		t.Errorf("inspect says OOMKilled and ExitCode %q", got)
	}
}

// It runs alone and with little: where others take the processors, more is not had.
func TestProcessorLimitHolds(t *testing.T) {
	n := newNode(t)
	n.detached([]string{"--cpus", "0.05", "--name", "spin"}, "sh", "-c", "while :; do :; done")
	periods := func() (total, throttled int) {
		for line := range strings.Lines(n.must("exec", "spin", "cat", group("cpu/cpu.stat", "cpu.stat"))) {
			f := strings.Fields(line)
			if len(f) != 2 {
				continue
			}
			value, _ := strconv.Atoi(f[1])
			switch f[0] {
			case "nr_periods":
				total = value
			case "nr_throttled":
				throttled = value
			}
		}
		return total, throttled
	}
	eventually(t, func() string {
		if total, throttled := periods(); total < 10 || throttled < total/2 {
			return "not throttled in most periods"
		}
		return ""
	})
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	id := n.detached([]string{"--memory", "64m"}, "sleep", "1000")
	n.must("update", "--memory", "32m", "--memory-swap", "32m", id)
	if got := n.must("exec", id, "cat", group("memory/memory.limit_in_bytes", "memory.max")); got != "33554432" {
		t.Errorf("limit after the update: %s", got)
	}
}
