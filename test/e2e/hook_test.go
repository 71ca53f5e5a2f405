package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// hooked is a node with a folder of hooks and a file that they write to.
type hooked struct {
	*node
	dir, said string
}

func newHooked(t *testing.T) *hooked {
	t.Helper()
	n := newNode(t)
	h := &hooked{n, t.TempDir(), filepath.Join(t.TempDir(), "said")}
	f, err := os.OpenFile(n.configPath(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(f, "[containers]\nhooks_dir = [%q]\n", h.dir); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	n.restart()
	return h
}

// add puts a shell script among the hooks of the node.
func (h *hooked) add(name, when, stage, script string) {
	h.t.Helper()
	text, err := json.Marshal(map[string]any{
		"version": "1.0.0", "when": json.RawMessage(when), "stages": []string{stage},
		"hook": map[string]any{"path": "/bin/sh", "args": []string{"sh", "-c", script}, "env": []string{"PATH=/bin:/usr/bin"}, "timeout": 30},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.dir, name+".json"), text, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// heard is what the hooks wrote.
func (h *hooked) heard() string {
	text, _ := os.ReadFile(h.said) // nothing was said yet
	return string(text)
}

// TestHooks: hooks of the node, on a command that works without a daemon, and over one.
func TestHooks(t *testing.T) {
	t.Parallel()
	testHooks(t, newHooked(t))
}

// TestDaemonHooks: see TestHooks.
func TestDaemonHooks(t *testing.T) {
	t.Parallel()
	h := newHooked(t)
	h.serve()
	testHooks(t, h)
}

func testHooks(t *testing.T, h *hooked) {
	t.Helper()
	say := func(what string) string { return "echo " + what + " >> " + h.said }
	for _, stage := range []string{"prestart", "createRuntime", "createContainer", "poststart", "poststop"} {
		h.add(stage, `{"always": true}`, stage, say(stage))
	}
	h.add("startContainer", `{"always": true}`, "startContainer", "echo made > /by-hook")
	h.add("sh-only", `{"commands": ["^sh$"]}`, "createRuntime", say("sh-only"))
	h.add("gpu-only", `{"annotations": {"^example.gpu$": "^all$"}}`, "createRuntime", say("gpu-only"))
	if got := h.must(h.run([]string{"--rm"}, "cat", "/by-hook")...); got != "made" {
		t.Errorf("the container sees %q, want what startContainer has made", got)
	}
	eventually(t, func() string {
		if got := h.heard(); got != "prestart\ncreateRuntime\ncreateContainer\npoststart\npoststop\n" {
			return "the hooks say " + got
		}
		return ""
	})
	h.must(h.run([]string{"--rm", "--annotation", "example.gpu=all"}, "sh", "-c", "true")...)
	if got := h.heard(); strings.Count(got, "sh-only") != 1 || strings.Count(got, "gpu-only") != 1 {
		t.Errorf("the hooks with conditions say %q", got)
	}
	// Created, started, restarted, removed: each life has its hooks.
	if err := os.Remove(h.said); err != nil {
		t.Fatal(err)
	}
	id := h.must("create", h.image, "sleep", "1000")
	if got := h.heard(); got != "" && !strings.HasPrefix(got, "prestart\ncreateRuntime\ncreateContainer\n") || strings.Contains(got, "poststart") {
		t.Errorf("a created container's hooks say %q", got)
	}
	h.must("start", id)
	h.must("restart", "-t", "0", id)
	h.must("rm", "-f", id)
	if got := h.heard(); strings.Count(got, "poststop") != 2 || strings.Count(got, "poststart") != 2 {
		t.Errorf("two lives' hooks say %q", got)
	}
	h.add("fails", `{"commands": ["^true$"]}`, "createContainer", "echo there is no such thing >&2; exit 4")
	if r := h.berth(h.run([]string{"--rm"}, "true")...); r.code != 125 || !strings.Contains(r.stderr, "createContainer hook") || !strings.Contains(r.stderr, "no such thing") {
		t.Errorf("run with a hook that fails: %+v", r)
	}
	if got := h.must("ps", "-aq"); got != "" {
		t.Errorf("there are containers %q", got)
	}
	if err := os.WriteFile(filepath.Join(h.dir, "bad.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := h.berth(h.run([]string{"--rm"}, "true")...); r.code != 125 || !strings.Contains(r.stderr, "bad.json") {
		t.Errorf("run with hooks that cannot be understood: %+v", r)
	}
}

// TestDaemonHooksAreUndone: a daemon that dies while a hook runs takes the hook with it,
// and the next one undoes the launch and runs what is to be run after it.
func TestDaemonHooksAreUndone(t *testing.T) {
	t.Parallel()
	h := newHooked(t)
	d := h.serve()
	h.add("hangs", `{"always": true}`, "createRuntime", "echo $$ > "+h.said+"; exec sleep 1000")
	h.add("poststop", `{"always": true}`, "poststop", "echo poststop >> "+h.said)
	cmd := h.command(t.Context(), h.run([]string{"-d", "--name", "cut-off"}, "true")...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	eventually(t, func() string {
		if _, err := fmt.Sscan(h.heard(), &pid); err != nil {
			return "the hook does not run"
		}
		return ""
	})
	// Meanwhile nobody else waits, and what is asked is answered.
	if got := h.must("ps", "-a", "--format", "{{.Names}} {{.State}}"); !strings.Contains(got, "cut-off preparing") {
		t.Errorf("ps shows %q while a hook runs", got)
	}
	d.end(syscall.SIGKILL)
	_ = cmd.Wait() // its daemon died
	eventually(t, func() string {
		if err := syscall.Kill(pid, 0); err == nil {
			return "the hook lives on"
		}
		return ""
	})
	h.serve()
	eventually(t, func() string {
		if got := h.heard(); !strings.HasSuffix(got, "poststop\n") {
			return "the hooks say " + got
		}
		return ""
	})
	if got := h.must("ps", "-aq"); got != "" {
		t.Errorf("there are containers %q", got)
	}
}
