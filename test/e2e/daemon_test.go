package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// berthd is a daemon of a node.
type berthd struct {
	n    *node
	cmd  *exec.Cmd
	log  *syncBuffer
	done chan struct{} // closed once it has ended

	killed bool
}

// syncBuffer is a buffer that is written and read at once.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// serve starts a daemon on the node, which is ready when this returns, and ends it
// with the test.
func (n *node) serve() *berthd {
	n.t.Helper()
	d := &berthd{n: n, log: &syncBuffer{}, done: make(chan struct{})}
	d.cmd = exec.CommandContext(context.WithoutCancel(n.t.Context()), binary(n.t, "berthd"), //nolint:gosec // of the build
		"--config", n.configPath(), "--root", filepath.Join(n.dir, "root"), "--state", filepath.Join(n.dir, "state"))
	d.cmd.Stderr = d.log
	if err := d.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	go func() {
		defer close(d.done)
		_ = d.cmd.Wait() // how it ended is in its log
	}()
	n.daemon = d
	n.t.Cleanup(func() {
		d.end(syscall.SIGTERM)
		_ = os.Remove(filepath.Join(n.dir, "state", "berthd.lock")) // stays, as other locks do
		if d.killed {
			_ = os.Remove(filepath.Join(n.dir, "state", "berth.sock")) // as the word says
		}
	})
	eventually(n.t, func() string {
		if !strings.Contains(d.log.String(), `"ready"`) {
			return "berthd is not ready: " + d.log.String()
		}
		return ""
	})
	return d
}

// restart makes the daemon, if there is one, see another configuration.
func (n *node) restart() {
	n.t.Helper()
	if n.daemon != nil {
		n.daemon.end(syscall.SIGTERM)
		n.serve()
	}
}

// end sends sig and waits.
func (d *berthd) end(sig syscall.Signal) {
	d.killed = d.killed || sig == syscall.SIGKILL
	_ = d.cmd.Process.Signal(sig) // it may have ended
	select {
	case <-d.done:
	case <-time.After(patience):
		d.n.t.Errorf("berthd does not end: %s", d.log)
		_ = d.cmd.Process.Kill() // see above
		<-d.done
	}
}

// TestDaemonMayDie: containers do not notice that berthd is killed, what ends
// meanwhile is told truly, and events go on where they were.
func TestDaemonMayDie(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	first := n.serve()
	if got := n.must("info", "--format", "{{.Daemon}}"); !strings.Contains(got, strconv.Itoa(first.cmd.Process.Pid)) {
		t.Fatalf("info does not name the daemon: %q", got)
	}
	stays := n.detached(nil, "sh", "-c", "while :; do date +%s; sleep 1; done")
	ends := n.detached(nil, "sh", "-c", "while [ ! -e /tmp/end ]; do sleep 0.1; done; exit 7")
	goes := n.must(n.run([]string{"-d", "--rm"}, "sh", "-c", "while [ ! -e /tmp/end ]; do sleep 0.1; done")...)
	pid := n.inspect(stays, "{{.State.Pid}}")
	var last struct{ Sequence uint64 }
	line, _, _ := strings.Cut(n.watchEvents(goes), "\n")
	if err := json.Unmarshal([]byte(line), &last); err != nil || last.Sequence == 0 {
		t.Fatalf("events shows %q: %v", line, err)
	}

	first.end(syscall.SIGKILL)
	for _, id := range []string{ends, goes} { // without a daemon, over the same socket path
		n.must("exec", id, "touch", "/tmp/end")
	}
	eventually(t, func() string {
		if got := n.inspect(ends, "{{.State.Status}}"); got != "exited" {
			return "the container that ends is " + got
		}
		return ""
	})
	second := n.serve()
	if got := n.inspect(ends, "{{.State.ExitCode}}"); got != "7" {
		t.Errorf("what ended meanwhile has exit code %s, want 7", got)
	}
	if got := n.inspect(stays, "{{.State.Status}} {{.State.Pid}}"); got != "running "+pid {
		t.Errorf("what runs is %q, want the same process %s", got, pid)
	}
	if got := n.must("exec", stays, "echo", "there"); got != "there" {
		t.Errorf("exec says %q", got)
	}
	eventually(t, func() string {
		if r := n.berth("inspect", goes); r.code == 0 {
			return "the container with --rm is still there"
		}
		return ""
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	follow := n.command(ctx, "events", "--after", strconv.FormatUint(last.Sequence, 10), "--filter", "event=destroyed", "--format", "{{.ID}}")
	out, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	transcribe(out).await(t, goes)
	_ = follow.Process.Signal(syscall.SIGTERM) // it has shown what it had to
	_ = follow.Wait()
	second.end(syscall.SIGTERM)
	if got := n.inspect(stays, "{{.State.Status}} {{.State.Pid}}"); got != "running "+pid {
		t.Errorf("after the daemon ended in peace %q, want the same process %s", got, pid)
	}
}

// watchEvents shows events while a container is paused and resumed, and returns the first.
func (n *node) watchEvents(id string) string {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	cmd := n.command(ctx, "events", "--format", "json", "--filter", "container="+id)
	out, err := cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	seen := transcribe(out)
	eventually(n.t, func() string { // it may not stand at the first
		n.must("pause", id)
		n.must("unpause", id)
		if !strings.Contains(seen.String(), "resumed") {
			return "no event was shown: " + seen.String()
		}
		return ""
	})
	_ = cmd.Process.Signal(syscall.SIGTERM) // it has shown what it had to
	_ = cmd.Wait()
	return seen.String()
}

// TestDaemonSockets: who may do what.
func TestDaemonSockets(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	reading := filepath.Join(n.dir, "read.sock")
	debug := filepath.Join(n.dir, "debug.sock")
	n.dropIn(fmt.Sprintf("[daemon]\nread_only_socket = %q\ndebug_socket = %q\n", reading, debug))
	d := n.serve()
	for _, path := range []string{reading, debug, filepath.Join(n.dir, "state", "berth.sock")} {
		st, err := os.Lstat(path)
		if err != nil || st.Mode() != os.ModeSocket|0o600 {
			t.Errorf("%s: %v, %v, want a socket for its owner", path, st, err)
		}
	}
	id := n.detached(nil, "sleep", "1000")
	if got := n.must("--host", "unix://"+reading, "ps", "-q", "--no-trunc"); got != id {
		t.Errorf("ps by the reading socket shows %q", got)
	}
	for _, args := range [][]string{{"rm", "-f", id}, {"exec", id, "true"}, n.run(nil, "true"), {"pull", n.image}, {"stop", id}} {
		r := n.berth(append([]string{"--host", "unix://" + reading}, args...)...)
		if r.code == 0 || !strings.Contains(r.stderr, "this socket is for reading") {
			t.Errorf("%q by the reading socket: code %d, %q", args, r.code, r.stderr)
		}
	}
	if r := n.berth("--host", "unix:///nonexistent", "ps"); r.code != 1 && r.code != 125 || !strings.Contains(r.stderr, "no berthd listens") {
		t.Errorf("ps by no socket: code %d, %q", r.code, r.stderr)
	}
	if r := n.berth("--host", "ftp://x", "ps"); r.code == 0 || !strings.Contains(r.stderr, "neither unix") {
		t.Errorf("ps by an odd host: code %d, %q", r.code, r.stderr)
	}
	metrics := httpGet(t, debug, "/metrics")
	for _, want := range []string{
		`berth_containers{state="running"} 1`, `berth_operation_seconds_count{operation="launch",outcome="ok"} 1`,
		`berth_step_seconds_count{step="launch.isolator"}`, `berth_events_total{type="started"} 1`,
		`berth_rpc_seconds_count{code="PermissionDenied",method="/berth.v1.ContainersService/Destroy"} 1`, "go_goroutines",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics:\n%s", want, metrics)
		}
	}
	if got := httpGet(t, debug, "/debug/pprof/goroutine?debug=1"); !strings.Contains(got, "goroutine profile") {
		t.Errorf("profile: %.200s", got)
	}
	other := exec.CommandContext(t.Context(), d.cmd.Path, d.cmd.Args[1:]...)
	if out, err := other.CombinedOutput(); err == nil || !strings.Contains(string(out), "another berthd serves") {
		t.Errorf("a second daemon: %v, %s", err, out)
	}
	c, err := (&net.Dialer{}).DialContext(t.Context(), "unix", reading) // nonsense ends the connection only
	if err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write([]byte(strings.Repeat("nonsense\n", 1000)))
	_ = c.Close()
	n.must("ps")
}

// httpGet reads from HTTP on a socket.
func httpGet(t *testing.T, socket, path string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://berth"+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// dropIn adds to the configuration, by a drop-in.
func (n *node) dropIn(text string) {
	n.t.Helper()
	folder := filepath.Join(n.dir, "config.d")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "test.toml"), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = os.RemoveAll(folder) }) // in the test's folder
}

// TestDaemonConfiguration: berthd says what is wrong with it, and reloads.
func TestDaemonConfiguration(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	d := n.serve()
	check := func(command string) (string, error) {
		out, err := exec.CommandContext(t.Context(), d.cmd.Path, "--config", n.configPath(), "config", command).CombinedOutput() //nolint:gosec // of the build
		return string(out), err
	}
	if out, err := check("check"); err != nil || !strings.Contains(out, "good") {
		t.Errorf("config check: %v, %s", err, out)
	}
	n.dropIn("[daemon]\nlog_level = \"debug\"\n[pull]\nlayers = 3\n")
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if l := d.log.String(); !strings.Contains(l, `"applied":["daemon.log_level"],"restart":["pull.layers"]`) {
			return "reloading is not told: " + l
		}
		return ""
	})
	if out, err := check("dump"); err != nil || !strings.Contains(out, "layers = 3") {
		t.Errorf("config dump: %v, %s", err, out)
	}
	n.dropIn("\n[pull]\nlairs = 3\n")
	if out, err := check("check"); err == nil || !strings.Contains(out, `test.toml": line 3: no key "pull.lairs"`) {
		t.Errorf("config check of an unknown key: %v, %s", err, out)
	}
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if l := d.log.String(); !strings.Contains(l, "the configuration stays as it is") {
			return "the mistake is not told: " + l
		}
		return ""
	})
}
