package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-dev/berth/fetcher/registry/registrytest"
)

// metrics reads what the daemon counts.
func (n *node) metrics(socket string) string {
	n.t.Helper()
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer c.CloseIdleConnections()
	r, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, "http://berth/metrics", nil)
	if err != nil {
		n.t.Fatal(err)
	}
	response, err := c.Do(r)
	if err != nil {
		n.t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(response.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return string(b)
}

// TestDaemonMakesRoom: when the disk fills, images that nobody uses go, and the daemon
// says so.
func TestDaemonMakesRoom(t *testing.T) {
	need(t, os.Getuid() == 0, "running containers needs root")
	server := registrytest.New(t)
	publish(t, server, "app", storeImage(t))
	n := bareNode(t, t.TempDir())
	t.Cleanup(n.clear)
	n.smallRoot("tmpfs")
	// So much that the images that go do not end the pressure: they may go before anybody looks.
	debug := filepath.Join(n.dir, "debug.sock")
	n.configure(fmt.Sprintf("[images]\ngc_high = \"90%%\"\ngc_min_age = \"0s\"\n[pressure]\ndisk_available = \"50%%\"\n[daemon]\ndebug_socket = %q\n", debug))
	n.serve()
	n.must("pull", "-q", server.Host()+"/app:1")
	if got := n.must("info", "--format", "{{range .Conditions}}{{.Name}} {{.Active}}, {{end}}"); got != "MemoryPressure false, DiskPressure false, " {
		t.Errorf("conditions of a node that has room: %q", got)
	}
	n.leave(1 << 20)
	if got := n.must("info"); !strings.Contains(got, "DiskPressure:       since ") {
		t.Errorf("info on a full disk: %s", got)
	}
	n.berth("pull", "-q", server.Host()+"/app:2") // there is none; that it was asked for is a reason to look
	eventually(t, func() string {
		if got := n.must("images", "-q"); got != "" {
			return "the image is still there"
		}
		if got := n.metrics(debug); !strings.Contains(got, "berth_images_removed_total 1") || !strings.Contains(got, `berth_node_pressure{condition="DiskPressure"} 1`) {
			return "the metrics do not say so"
		}
		return ""
	})
}

// TestDaemonTop: the table of all containers, over the daemon, on a terminal.
func TestDaemonTop(t *testing.T) {
	n := newNode(t)
	n.serve()
	id := n.detached([]string{"--name", "busy", "-m", "64m"}, "sh", "-c", "while :; do :; done")
	cmd, typed, seen := n.onTerminal("top", "--interval", "300ms")
	for _, want := range []string{"\x1b[?1049h", "CONTAINER ID", "busy"} {
		seen.await(t, want)
	}
	if _, err := typed.WriteString("q"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("top ends with %v; it showed\n%s", err, seen)
	}
	eventually(t, func() string { // what is measured
		line := n.must("top", "--no-stream")
		fields := strings.Fields(line[strings.LastIndex(line, "\n")+1:])
		if len(fields) < 14 || fields[1] != "busy" || fields[2] == "--" || fields[2] == "0.0" || fields[9] != "1" || fields[13] == "--" {
			return fmt.Sprintf("top shows %q", fields)
		}
		return ""
	})
	if got := n.must("top", id, "-o", "pid"); !strings.Contains(got, n.inspect(id, "{{.State.Pid}}")) {
		t.Errorf("top of one container: %q", got)
	}
	if got := n.must("stats", "--no-stream", "--format", "{{.DiskUsage}}", id); got == "--" {
		t.Errorf("stats does not say what was written: %q", got)
	}
}

// TestDaemonOverTCP: the command over a port, without TLS and only because it is a
// loopback's.
func TestDaemonOverTCP(t *testing.T) {
	n := newNode(t)
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close() // somebody else may have it now, which is not likely
	n.configure(fmt.Sprintf("[tcp]\naddress = %q\ninsecure = true\n", address))
	n.serve()
	host := "tcp://" + address
	if got := n.must("--host", host, "run", "--rm", n.image, "echo", "there"); got != "there" {
		t.Errorf("run over tcp says %q", got)
	}
	for _, refused := range []struct {
		want string
		args []string
	}{
		{"about files of the machine", []string{"--host", host, "volume", "ls"}},
		{"needs --tls-ca", []string{"--host", "tcp://node.example:1", "ps"}},
	} {
		if r := n.berth(refused.args...); r.code != 125 || !strings.Contains(r.stderr, refused.want) {
			t.Errorf("%q: %+v, want %q", refused.args, r, refused.want)
		}
	}
}
