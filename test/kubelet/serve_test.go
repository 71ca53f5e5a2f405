package kubelet_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// podLogs: all of the output, of this run and the last one, in the forms of the API.
func podLogs(n *node) {
	n.manifest("logs", `
	volumes: [{name: v, emptyDir: {}}]
	containers:
`+script("main", "test -e /v/again || { touch /v/again; echo first; printf unfinished; exit 5; }; echo one; echo two; echo three; sleep 10000", "volumeMounts: [{name: v, mountPath: /v}]"))
	p := n.await("logs", func(p *pod) string {
		return unless(p.container("main").RestartCount == 1 && p.ready(), "it has not been restarted")
	})
	n.want("the last run", p.container("main").LastState.String(), "terminated: 5 Error: ")
	eventually(n.T, func() string {
		got := n.logs("logs", "main", "")
		return unless(got == "one\ntwo\nthree\n", fmt.Sprintf("the log is %q", got))
	})
	n.want("log of the last run", n.logs("logs", "main", "?previous=true"), "first\nunfinished")
	n.want("the last line", n.logs("logs", "main", "?tailLines=1"), "three\n")
	n.want("the first bytes", n.logs("logs", "main", "?limitBytes=5"), "one\nt")
	stamp, rest, _ := strings.Cut(n.logs("logs", "main", "?timestamps=true&limitBytes=60"), " ")
	if at, err := time.Parse(time.RFC3339Nano, stamp); err != nil || time.Since(at) > patience || !strings.HasPrefix(rest, "one\n") {
		n.Errorf("with time: %q %q, %v", stamp, rest, err)
	}
}

// podLogRotation: no line is lost when the kubelet rotates, and old files are compressed.
func podLogRotation(n *node) {
	n.manifest("rotation", `
	containers:
`+script("main", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; [ $((i % 50)) = 0 ] && sleep 0.03; done; echo end; sleep 10000"))
	n.ready("rotation")
	eventually(n.T, func() string {
		return unless(n.logs("rotation", "main", "?tailLines=1") == "end\n", "it has not written all")
	})
	eventually(n.T, func() string { // files are renamed and compressed meanwhile
		lines, files := n.rotated("rotation", "main")
		if files < 2 || files > 3 || len(lines) < 100 {
			return fmt.Sprintf("there are %d lines in %d files", len(lines), files)
		}
		for i, line := range lines[:len(lines)-1] {
			if want := fmt.Sprintf("line %d", 20000-len(lines)+2+i); line != want {
				return fmt.Sprintf("in %d lines of %d files, line %d is %q, want %q", len(lines), files, i, line, want)
			}
		}
		return ""
	})
}

// rotated reads the log files of a container as they are on disk, the oldest first.
func (n *node) rotated(pod, container string) (lines []string, files int) {
	n.Helper()
	paths, _ := filepath.Glob(n.path("logs/default_" + pod + "-node_*/" + container + "/0.log.*")) // the pattern is ours
	current, _ := filepath.Glob(n.path("logs/default_" + pod + "-node_*/" + container + "/0.log")) // see above
	for _, path := range append(paths, current...) {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, 0 // the kubelet has just renamed it
		}
		if filepath.Ext(path) == ".gz" {
			r, err := gzip.NewReader(bytes.NewReader(b))
			if err != nil {
				return nil, 0 // it is just being written
			}
			if b, err = io.ReadAll(r); err != nil {
				return nil, 0 // see above
			}
		}
		for line := range strings.Lines(string(b)) {
			fields := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4) // time, stream, tag
			lines = append(lines, fields[len(fields)-1])
		}
	}
	return lines, len(paths) + len(current)
}

// podExec: commands through the kubelet, in each way that clients have.
func podExec(n *node) {
	n.manifest("exec", `
	containers:
`+script("main", "sleep 10000"))
	n.ready("exec")
	out, err := n.exec("exec", "main", "input\n", "sh", "-c", "cat; echo error >&2; exit 3")
	if err != nil || out.stdout != "input\n" || out.stderr != "error\n" || out.exitCode() != 3 {
		n.Errorf("over SPDY: %+v, %v", out, err)
	}
	out, err = n.execWebSocket("exec", "main", "sh", "-c", "echo output; echo error >&2; exit 4")
	if err != nil || out.stdout != "output\n" || out.stderr != "error\n" || out.exitCode() != 4 {
		n.Errorf("over a WebSocket: %+v, %v", out, err)
	}
	text, err := n.request(http.MethodPost, "/run/default/exec-node/main?"+url.Values{"cmd": {"echo once"}}.Encode())
	if err != nil || text != "once\n" {
		n.Errorf("without streams: %q, %v", text, err)
	}
	const much = 3 << 20
	out, err = n.exec("exec", "main", strings.Repeat("x", much), "cat")
	if err != nil || len(out.stdout) != much || out.exitCode() != 0 {
		n.Errorf("of %d bytes came back %d: %v", much, len(out.stdout), err)
	}
	if out, err := n.exec("exec", "main", "", "/nonexistent"); err == nil && out.exitCode() == 0 {
		n.Errorf("a command that does not exist: %+v", out)
	}
	if _, err := n.exec("exec", "other", "", "true"); err == nil {
		n.Error("a command in a container that does not exist was executed")
	}
}

// podAttach: the container's own streams, and it goes on when the client has left.
func podAttach(n *node) {
	n.manifest("attach", `
	containers:
`+script("main", "while read line; do echo got $line; done; sleep 10000", "stdin: true"))
	n.ready("attach")
	c, err := n.spdyConnection("/attach/default/attach-node/main?input=1&output=1", "v4.channel.k8s.io")
	if err != nil {
		n.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // only read
	for _, kind := range []string{"error", "stdin", "stdout"} {
		s, err := c.CreateStream(http.Header{"Streamtype": {kind}})
		if err != nil {
			n.Fatal(err)
		}
		switch kind {
		case "stdin":
			if _, err := s.Write([]byte("this\n")); err != nil {
				n.Fatal(err)
			}
		case "stdout":
			b := make([]byte, 64)
			read, err := s.Read(b)
			if got := string(b[:read]); got != "got this\n" {
				n.Errorf("read %q, %v", got, err)
			}
		}
	}
	_ = c.Close() // leaves
	n.want("log", n.logs("attach", "main", ""), "got this\n")
	if p := n.ready("attach"); p.container("main").RestartCount != 0 {
		n.Errorf("the container has ended: %s", p)
	}
}

// podForward: a port of the pod, by the kubelet.
func podForward(n *node) {
	n.manifest("forward", `
	containers:
`+script("main", "mkdir /tmp/www; echo hello >/tmp/www/page; exec httpd -f -p 127.0.0.1:8080 -h /tmp/www"))
	n.ready("forward")
	eventually(n.T, func() string {
		answer, err := n.forward("forward", 8080, "GET /page HTTP/1.0\r\n\r\n")
		return unless(err == nil && strings.HasSuffix(answer, "\r\n\r\nhello\n"), fmt.Sprintf("the answer is %q, %v", answer, err))
	})
	if answer, err := n.forward("forward", 8081, "GET / HTTP/1.0\r\n\r\n"); err == nil {
		n.Errorf("nobody listens, and the answer is %q", answer)
	}
}

// podFigures: the kubelet's summary has the pod and its containers.
func podFigures(n *node) {
	n.manifest("figures", `
	containers:
`+script("main", "dd if=/dev/zero of=/file bs=1M count=3; while :; do :; done", "resources: {requests: {cpu: 50m}, limits: {cpu: 100m, memory: 64Mi}}"))
	n.ready("figures")
	eventually(n.T, func() string {
		var s struct {
			Pods []struct {
				PodRef     struct{ Name string }
				Containers []struct {
					Name   string
					CPU    struct{ UsageCoreNanoSeconds uint64 }
					Memory struct{ WorkingSetBytes uint64 }
					Rootfs struct{ UsedBytes, CapacityBytes uint64 }
				}
			}
		}
		if err := n.decode("/stats/summary", &s); err != nil {
			return err.Error()
		}
		for _, p := range s.Pods {
			if p.PodRef.Name != "figures-node" || len(p.Containers) != 1 {
				continue
			}
			c := p.Containers[0]
			return unless(c.Name == "main" && c.CPU.UsageCoreNanoSeconds > 0 && c.Memory.WorkingSetBytes > 0 && c.Memory.WorkingSetBytes < 64<<20 &&
				c.Rootfs.UsedBytes >= 3<<20 && c.Rootfs.CapacityBytes > 0, fmt.Sprintf("the summary has %+v", p))
		}
		return "the pod is not in the summary"
	})
}
