package soak_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/client"
	"github.com/berth-dev/berth/test/fixtures"
)

// patience bounds what should take a moment.
const patience = time.Minute

// node is a berthd with folders of its own, and the image "busybox" in its store.
type node struct {
	*testing.T

	dir, parent string
	image       string
	cmd         *exec.Cmd
	log         *os.File
	client      *client.Client
}

// binary finds a program of the build.
func binary(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("BERTH_BIN")
	if dir == "" {
		dir = filepath.Join("..", "..", "bin")
	}
	path, err := filepath.Abs(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		missing(t, "%v (make build makes it)", err)
	}
	return path
}

// missing skips the test, but fails in the full run.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" || os.Getenv("BERTH_BIN") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

func newNode(t *testing.T) *node {
	t.Helper()
	if os.Getuid() != 0 {
		missing(t, "running containers needs root")
	}
	dir, err := os.MkdirTemp("", "berth-soak-") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	n := &node{T: t, dir: dir, parent: "/" + filepath.Base(dir), image: "oci:" + filepath.Join(dir, "layout") + ":busybox"}
	t.Cleanup(n.clear)
	image, err := fixtures.BusyboxImage()
	if err != nil {
		missing(t, "busybox image: %v", err)
	}
	if err := fixtures.WriteLayout(filepath.Join(dir, "layout"), "busybox", image); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("[cgroup]\nparent = %q\n[daemon]\ndebug_socket = %q\n", n.parent, n.path("debug.sock"))
	if err := os.WriteFile(n.path("config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if n.log, err = os.OpenFile(n.path("berthd.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	if _, err := n.client.Images.Pull(t.Context(), containerizer.ImageSource{Reference: n.image}, containerizer.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) path(name string) string { return filepath.Join(n.dir, name) }

// start starts a daemon and waits until it has recovered; it says how long the daemon
// took for that.
func (n *node) start() time.Duration {
	n.Helper()
	n.cmd = exec.CommandContext(context.WithoutCancel(n.Context()), binary(n.T, "berthd"), //nolint:gosec // of the build
		"--config", n.path("config.toml"), "--root", n.path("root"), "--state", n.path("state"))
	n.cmd.Stderr = n.log
	began := time.Now()
	if err := n.cmd.Start(); err != nil {
		n.Fatal(err)
	}
	c, err := client.New("unix://"+n.path("state/berth.sock"), nil)
	if err != nil {
		n.Fatal(err)
	}
	n.client = c
	ctx, cancel := context.WithTimeout(n.Context(), patience)
	defer cancel()
	if err := c.WaitReady(ctx); err != nil {
		n.Fatalf("%v\n%s", err, n.logged())
	}
	return time.Since(began)
}

// end ends the daemon by a signal.
func (n *node) end(sig syscall.Signal) {
	n.Helper()
	_ = n.client.Close() // of a daemon that ends
	_ = n.cmd.Process.Signal(sig)
	late := time.AfterFunc(patience, func() { _ = n.cmd.Process.Kill() }) // reported below
	_ = n.cmd.Wait()                                                      // how it ended is in its log
	if !late.Stop() {
		n.Errorf("berthd does not end:\n%s", n.logged())
	}
}

// logged is the end of the daemon's log.
func (n *node) logged() string {
	const most = 8 << 10
	b, err := os.ReadFile(n.path("berthd.log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-most):])
}

// clear takes everything away, also after a failure.
func (n *node) clear() {
	if n.client != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
		defer cancel()
		n.destroyAll(ctx)
		n.end(syscall.SIGTERM)
	}
	for _, command := range [][]string{{"rmi", "-f", n.image}, {"system", "check", "--repair"}} { // the bridge goes with it
		args := append([]string{"--config", n.path("config.toml"), "--root", n.path("root"), "--state", n.path("state")}, command...)
		cmd := exec.CommandContext(context.Background(), binary(n.T, "berth"), args...) //nolint:gosec // of the build
		if out, err := cmd.CombinedOutput(); err != nil {
			n.Errorf("berth %q: %v\n%s", command, err, out)
		}
	}
	fixtures.RemoveGroups(n.parent)
	if n.Failed() && n.log != nil {
		n.Log(n.logged())
	}
	if err := os.RemoveAll(n.dir); err != nil {
		n.Error(err)
	}
}

// destroyAll destroys all containers, many at once.
func (n *node) destroyAll(ctx context.Context) {
	e := n.client.Containers
	all, err := e.List(ctx, containerizer.Filter{})
	if err != nil {
		n.Error(err)
	}
	each(len(all), 16, func(i int) {
		if err := e.Destroy(ctx, all[i].ID); err != nil {
			n.Error(err)
		}
	})
}

// each calls f for all numbers below count, inFlight at once.
func each(count, inFlight int, f func(int)) {
	numbers := make(chan int)
	var wg sync.WaitGroup
	for range inFlight {
		wg.Go(func() {
			for i := range numbers {
				f(i)
			}
		})
	}
	for i := range count {
		numbers <- i
	}
	close(numbers)
	wg.Wait()
}

// debug reads from the debug socket.
func (n *node) debug(path string) string {
	n.Helper()
	c := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", n.path("debug.sock"))
	}}}
	request, err := http.NewRequestWithContext(n.Context(), http.MethodGet, "http://berth"+path, http.NoBody)
	if err != nil {
		n.Fatal(err)
	}
	response, err := c.Do(request)
	if err != nil {
		n.Fatal(err)
	}
	b, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		n.Fatal(err)
	}
	return string(b)
}

// spec is a container of busybox that runs a script.
func (n *node) spec(script string) *containerizer.Spec {
	return &containerizer.Spec{
		Image:   &containerizer.ImageSource{Reference: n.image, Pull: containerizer.PullNever},
		Process: containerizer.Process{Args: []string{"sh", "-c", script}},
		Network: containerizer.Network{None: true},
		Labels:  map[string]string{"soak": "yes"},
	}
}

// metric returns the sum of a metric's series.
func metric(text, name string) (sum float64) {
	for line := range strings.Lines(text) {
		series, value, ok := strings.Cut(line, " ")
		if base, _, _ := strings.Cut(series, "{"); !ok || base != name {
			continue
		}
		var v float64
		if _, err := fmt.Sscan(value, &v); err == nil {
			sum += v
		}
	}
	return sum
}
