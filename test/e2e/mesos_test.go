package e2e_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/berth-dev/berth/containerizer/adapter/mesos/codec"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/recordio"
	agentv1 "github.com/berth-dev/berth/proto/mesos/v1/agent"
)

// mesosAgent is the operator API of a node.
type mesosAgent struct {
	n       *node
	url     string
	workDir string
}

// mesosAgent serves the API over TCP, with a principal.
func (n *node) mesosAgent() *mesosAgent {
	n.t.Helper()
	l, err := (&net.ListenConfig{}).Listen(n.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close() // the daemon is to have it
	a := &mesosAgent{n: n, url: "http://" + address + "/api/v1", workDir: n.t.TempDir()}
	credentials := filepath.Join(n.t.TempDir(), "credentials")
	if err := os.WriteFile(credentials, []byte(`{"credentials":[{"principal":"ops","secret":"s3cret"}]}`), 0o600); err != nil {
		n.t.Fatal(err)
	}
	f, err := os.OpenFile(n.configPath(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	_, err = fmt.Fprintf(f, "[mesos]\naddress = %q\ncredentials = %q\nwork_dir = %q\n", address, credentials, a.workDir)
	if err != nil || f.Close() != nil {
		n.t.Fatal(err)
	}
	n.serve()
	a.ready()
	return a
}

// ready waits until the API has recovered what an earlier daemon left: 503 until then.
func (a *mesosAgent) ready() {
	a.n.t.Helper()
	eventually(a.n.t, func() string {
		r, err := a.send(a.n.t.Context(), jsonHeader(), strings.NewReader(`{"type":"GET_HEALTH"}`))
		if err != nil {
			return err.Error()
		}
		defer r.Body.Close() //nolint:errcheck // its status is all
		if r.StatusCode != http.StatusOK {
			return r.Status
		}
		return ""
	})
}

// send sends a call, and returns its answer still open.
func (a *mesosAgent) send(ctx context.Context, h http.Header, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url, body)
	if err != nil {
		return nil, err
	}
	r.Header = h.Clone()
	r.SetBasicAuth("ops", "s3cret")
	return http.DefaultClient.Do(r)
}

func jsonHeader() http.Header { return http.Header{"Content-Type": {"application/json"}} }

// call sends a call in JSON that has to be answered with status.
func (a *mesosAgent) call(status int, format string, args ...any) string {
	a.n.t.Helper()
	body := fmt.Sprintf(format, args...)
	ctx, cancel := context.WithTimeout(a.n.t.Context(), patience)
	defer cancel()
	r, err := a.send(ctx, jsonHeader(), strings.NewReader(body))
	if err != nil {
		a.n.t.Fatal(err)
	}
	defer r.Body.Close() //nolint:errcheck // it was read
	answer, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != status {
		a.n.t.Fatalf("%s\n got %d %s, %v; want %d", body, r.StatusCode, answer, err, status)
	}
	return string(answer)
}

// parent launches a standalone container that goes on.
func (a *mesosAgent) parent(id, rest string) {
	a.n.t.Helper()
	a.call(200, `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":%q},"command":{"value":"sleep 1000"}%s}}`, id, rest)
}

// end ends a standalone container and removes it.
func (a *mesosAgent) end(id string) {
	a.n.t.Helper()
	a.call(200, `{"type":"KILL_CONTAINER","kill_container":{"container_id":{"value":%q}}}`, id)
	a.call(200, `{"type":"WAIT_CONTAINER","wait_container":{"container_id":{"value":%q}}}`, id)
	a.call(200, `{"type":"REMOVE_CONTAINER","remove_container":{"container_id":{"value":%q}}}`, id)
	if left, err := os.ReadDir(filepath.Join(a.workDir, "containers")); err != nil || len(left) != 0 {
		a.n.t.Errorf("sandboxes are left: %v, %v", left, err)
	}
}

// file reads a file of a sandbox by the API.
func (a *mesosAgent) file(path string) string {
	a.n.t.Helper()
	answer := a.call(200, `{"type":"READ_FILE","read_file":{"path":%q,"offset":0}}`, filepath.Join(a.workDir, "containers", path))
	r := &agentv1.Response{}
	if err := codec.JSON.Unmarshal([]byte(answer), r); err != nil {
		a.n.t.Fatal(err)
	}
	return string(r.GetReadFile().GetData())
}

// TestDaemonMesosGo: the client of mesos-go gets what it expects, in both encodings.
func TestDaemonMesosGo(t *testing.T) {
	t.Parallel()
	const source = "/usr/share/gocode"
	_, err := os.Stat(filepath.Join(source, "src/github.com/mesos/mesos-go"))
	need(t, err == nil, "golang-github-mesos-mesos-go-dev is not there")
	n := newNode(t)
	program := filepath.Join(t.TempDir(), "mesos-go")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Dir = filepath.Join("..", "mesos-go")
	build.Env = append(os.Environ(), "GO111MODULE=off", "GOFLAGS=", "CGO_ENABLED=0", "GOPATH="+source)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	a := n.mesosAgent()
	a.parent("executor", "")
	cmd := exec.CommandContext(t.Context(), program, "-url", a.url, "-parent", "executor", "-sandbox", filepath.Join(a.workDir, "containers", "executor"), "-user", "ops:s3cret")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	a.end("executor")
}

// TestDaemonMesos: what containers see, and how they end.
func TestDaemonMesos(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	a := n.mesosAgent()
	image := fmt.Sprintf(`"container":{"type":"MESOS","mesos":{"image":{"type":"DOCKER","docker":{"name":%q}}}`, n.image)

	t.Run("image", func(t *testing.T) {
		a.parent("withimage", `,`+image+`,"volumes":[{"mode":"RW","container_path":"/shared","source":{"type":"SANDBOX_PATH","sandbox_path":{"type":"SELF","path":"data"}}}]},
			"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.5}},{"name":"mem","type":"SCALAR","scalar":{"value":64}}]`)
		a.call(200, `{"type":"LAUNCH_NESTED_CONTAINER","launch_nested_container":{"container_id":{"value":"c","parent":{"value":"withimage"}},
			"command":{"value":"pwd; echo $MESOS_SANDBOX $A; cat /proc/1/comm; echo of-parent > p/file; id -u","environment":{"variables":[{"name":"A","value":"b"}]}},
			%s,"volumes":[{"mode":"RW","container_path":"p","source":{"type":"SANDBOX_PATH","sandbox_path":{"type":"PARENT","path":"data"}}}]}}}`, image)
		a.call(200, `{"type":"LAUNCH_NESTED_CONTAINER","launch_nested_container":{"container_id":{"value":"shares","parent":{"value":"withimage"}},"command":{"value":"pwd; cat /shared/file || sleep 0.1; echo in > sandbox"}}}`)
		a.call(200, `{"type":"WAIT_NESTED_CONTAINER","wait_nested_container":{"container_id":{"value":"shares","parent":{"value":"withimage"}}}}`)
		if got := a.file("withimage/containers/shares/stdout"); !strings.HasPrefix(got, "/mnt/mesos/sandbox/containers/shares\n") || a.file("withimage/containers/shares/sandbox") != "in\n" {
			t.Errorf("in the parent's root: stdout %q", got)
		}
		if got := a.call(200, `{"type":"WAIT_NESTED_CONTAINER","wait_nested_container":{"container_id":{"value":"c","parent":{"value":"withimage"}}}}`); !strings.Contains(got, `"exit_status":0`) {
			t.Errorf("ended %s: %s", got, a.file("withimage/containers/c/stderr"))
		}
		if got := a.file("withimage/containers/c/stdout"); got != "/mnt/mesos/sandbox\n/mnt/mesos/sandbox b\nsh\n0\n" {
			t.Errorf("stdout %q", got)
		}
		if got := a.file("withimage/data/file"); got != "of-parent\n" {
			t.Errorf("the parent's sandbox has %q", got)
		}
		if got := a.call(200, `{"type":"GET_CONTAINERS","get_containers":{"show_standalone":true,"show_nested":true}}`); !strings.Contains(got, `"mem_limit_bytes":67108864`) || strings.Contains(got, `"value":"c"`) {
			t.Errorf("containers %s", got)
		}
		a.end("withimage")
	})
	t.Run("fails", func(t *testing.T) {
		got := a.call(400, `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"f"},"command":{"shell":false,"value":"/no/such/program"}}}`)
		if !strings.Contains(got, "/no/such/program") {
			t.Errorf("the reason is %q", got)
		}
		a.call(404, `{"type":"WAIT_CONTAINER","wait_container":{"container_id":{"value":"f"}}}`)
		a.call(200, `{"type":"REMOVE_CONTAINER","remove_container":{"container_id":{"value":"f"}}}`)
	})
	t.Run("out of memory", func(t *testing.T) {
		a.call(200, `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"oom"},"command":{"value":"sleep 0.2; x=x; while :; do x=$x$x; done"},
			"resources":[{"name":"mem","type":"SCALAR","scalar":{"value":32}}]}}`)
		got := a.call(200, `{"type":"WAIT_CONTAINER","wait_container":{"container_id":{"value":"oom"}}}`)
		if !strings.Contains(got, `"state":"TASK_FAILED","reason":"REASON_CONTAINER_LIMITATION_MEMORY"`) || !strings.Contains(got, `"exit_status":9`) {
			t.Errorf("ended %s", got)
		}
		a.call(200, `{"type":"REMOVE_CONTAINER","remove_container":{"container_id":{"value":"oom"}}}`)
	})
	t.Run("artifact", func(t *testing.T) {
		source := filepath.Join(t.TempDir(), "tool")
		if err := os.WriteFile(source, []byte("#!/bin/sh\necho fetched\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		a.call(200, `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"art"},"command":{"value":"./bin/run","uris":[{"value":"file://%s","executable":true,"output_file":"bin/run"}]}}}`, source)
		a.call(200, `{"type":"WAIT_CONTAINER","wait_container":{"container_id":{"value":"art"}}}`)
		if got := a.file("art/stdout"); got != "fetched\n" {
			t.Errorf("stdout %q, stderr %q", got, a.file("art/stderr"))
		}
		a.call(200, `{"type":"REMOVE_CONTAINER","remove_container":{"container_id":{"value":"art"}}}`)
		a.call(400, `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"art"},"command":{"value":"true","uris":[{"value":"file:///no/such/file"}]}}}`)
		a.call(200, `{"type":"REMOVE_CONTAINER","remove_container":{"container_id":{"value":"art"}}}`)
	})
	t.Run("user", func(t *testing.T) {
		a.call(200, `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"u"},"command":{"user":"nobody","value":"id -un; touch mine"}}}`)
		a.call(200, `{"type":"WAIT_CONTAINER","wait_container":{"container_id":{"value":"u"}}}`)
		if got := a.file("u/stdout"); got != "nobody\n" {
			t.Errorf("stdout %q, stderr %q", got, a.file("u/stderr"))
		}
		a.file("u/mine")
		a.call(200, `{"type":"REMOVE_CONTAINER","remove_container":{"container_id":{"value":"u"}}}`)
	})
	t.Run("parent ends", func(t *testing.T) {
		a.parent("dies", "")
		a.call(200, `{"type":"LAUNCH_NESTED_CONTAINER","launch_nested_container":{"container_id":{"value":"c","parent":{"value":"dies"}},"command":{"value":"sleep 1000"}}}`)
		a.call(200, `{"type":"KILL_CONTAINER","kill_container":{"container_id":{"value":"dies"},"signal":9}}`)
		if got := a.call(200, `{"type":"WAIT_NESTED_CONTAINER","wait_nested_container":{"container_id":{"value":"c","parent":{"value":"dies"}}}}`); !strings.Contains(got, `"exit_status":9`) {
			t.Errorf("the child ended %s", got)
		}
		a.call(200, `{"type":"WAIT_CONTAINER","wait_container":{"container_id":{"value":"dies"}}}`)
		a.call(200, `{"type":"REMOVE_CONTAINER","remove_container":{"container_id":{"value":"dies"}}}`)
	})
}

// TestDaemonMesosSessions: they end with their client, with their parent, and with the
// daemon; and one client writes to them at a time.
func TestDaemonMesosSessions(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	a := n.mesosAgent()
	a.parent("p", "")
	begin := func(id, command string) (*recordio.Reader, context.CancelFunc) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		h := jsonHeader()
		h.Set("Accept", "application/recordio")
		body := fmt.Sprintf(`{"type":"LAUNCH_NESTED_CONTAINER_SESSION","launch_nested_container_session":{"container_id":{"value":%q,"parent":{"value":"p"}},"command":{"value":%q}}}`, id, command)
		r, err := a.send(ctx, h, strings.NewReader(body))
		if err != nil || r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != "application/recordio" {
			t.Fatalf("%v, %v", r, err)
		}
		t.Cleanup(func() { _ = r.Body.Close() }) // it may be closed
		return recordio.NewReader(r.Body, 1<<20), cancel
	}
	status := func(id string) string {
		return a.call(200, `{"type":"WAIT_NESTED_CONTAINER","wait_nested_container":{"container_id":{"value":%q,"parent":{"value":"p"}}}}`, id)
	}
	next := func(r *recordio.Reader) string {
		t.Helper()
		record, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		return string(record)
	}

	out, cancel := begin("client", "echo ready; sleep 1000")
	if got := next(out); got != `{"type":"DATA","data":{"type":"STDOUT","data":"cmVhZHkK"}}` {
		t.Errorf("first record %s", got)
	}
	cancel() // the client leaves
	if got := status("client"); !strings.Contains(got, `"exit_status":`) {
		t.Errorf("ended %s", got)
	}

	out, cancel = begin("input", "echo ready; cat")
	defer cancel()
	next(out)
	attach := func(records ...string) (int, string) {
		t.Helper()
		h := http.Header{"Content-Type": {"application/recordio"}, "Message-Content-Type": {"application/json"}}
		var body []byte
		for _, r := range append([]string{`{"type":"CONTAINER_ID","container_id":{"value":"input","parent":{"value":"p"}}}`}, records...) {
			body = recordio.Append(body, []byte(`{"type":"ATTACH_CONTAINER_INPUT","attach_container_input":`+r+`}`))
		}
		r, err := a.send(t.Context(), h, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close() //nolint:errcheck // it was read
		answer, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(answer)
	}
	data := func(s string) string {
		return `{"type":"PROCESS_IO","process_io":{"type":"DATA","data":{"type":"STDIN","data":"` + base64.StdEncoding.EncodeToString([]byte(s)) + `"}}}`
	}
	if code, answer := attach(data("one\n")); code != 200 { // and goes, without ending the input
		t.Errorf("input: %d %s", code, answer)
	}
	if got := next(out); !strings.Contains(got, base64.StdEncoding.EncodeToString([]byte("one\n"))) {
		t.Errorf("record %s", got)
	}
	for _, bad := range []string{`{"type":"PROCESS_IO"}`, `{"type":"PROCESS_IO","process_io":{"type":"DATA","data":{"type":"STDOUT","data":"eA=="}}}`, `{"type":"PROCESS_IO","process_io":{"type":"CONTROL","control":{"type":"TTY_INFO"}}}`} {
		if code, answer := attach(bad); code != 400 {
			t.Errorf("%s: %d %s", bad, code, answer)
		}
	}
	if code, answer := attach(data("two\n"), `{"type":"PROCESS_IO","process_io":{"type":"CONTROL","control":{"type":"HEARTBEAT","heartbeat":{"interval":{"nanoseconds":1}}}}}`, data("")); code != 200 {
		t.Errorf("end of input: %d %s", code, answer)
	}
	next(out)
	if _, err := out.Next(); err != io.EOF { //nolint:errorlint // it is returned as it is
		t.Errorf("behind the end of input: %v", err)
	}
	if got := status("input"); !strings.Contains(got, `"exit_status":0`) {
		t.Errorf("ended %s", got)
	}

	out, cancel = begin("daemon", "echo ready; sleep 1000")
	defer cancel()
	next(out)
	n.daemon.end(syscall.SIGKILL)
	n.serve()
	a.ready()
	if got := status("daemon"); !strings.Contains(got, `"exit_status":`) {
		t.Errorf("what a dead daemon left ended %s", got)
	}
	a.end("p")
}
