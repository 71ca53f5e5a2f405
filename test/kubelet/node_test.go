package kubelet_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-dev/berth/test/fixtures"
)

const (
	// patience bounds everything that is waited for: the machine may be busy, and kubelets
	// do some things once a minute, or in five, only.
	patience = 6 * time.Minute
	// upstream is the registry that images are named after; nobody asks it.
	upstream = "registry.k8s.io"
	image    = upstream + "/berth/busybox:1"
	// spare is an image that nothing uses for long.
	spare = upstream + "/berth/spare:1"
)

// node is a machine of a cluster, as a test has it.
type node struct {
	*testing.T
	*machine
}

// machine is a registry, berthd and the kubelet over it.
type machine struct {
	dir, parent string // of files, of control groups
	berthd      *program
	kubelet     *program
	settings    map[string]any // of the kubelet, besides those of every test

	cri struct {
		runtimeapi.RuntimeServiceClient
		runtimeapi.ImageServiceClient
	}
}

// program is one of the two, and its log.
type program struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// newNode starts everything. When the test ends, nothing of it may be left.
func newNode(t *testing.T) *node {
	t.Helper()
	need(t, os.Getuid() == 0, "running pods needs root")
	need(t, exists(kubeletPath(t)), "there is no %s (make test-kubelet makes it)", kubeletPath(t))
	dir, err := os.MkdirTemp("", "berth-kubelet-") //nolint:usetesting // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t, &machine{dir: dir, parent: filepath.Base(dir), settings: map[string]any{}}}
	t.Cleanup(n.clear)
	// Volumes that the kubelet mounts are for berthd to see, and no other mounts.
	for _, flags := range []uintptr{unix.MS_BIND, unix.MS_SHARED} {
		if err := unix.Mount(dir, dir, "", flags, ""); err != nil {
			t.Fatalf("make %s a place that is shared: %v", dir, err)
		}
	}
	n.makeGroups()
	n.configure(n.serveImages())
	n.startBerthd()
	c, err := grpc.NewClient("unix://"+n.path("cri.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	n.cri.RuntimeServiceClient, n.cri.ImageServiceClient = runtimeapi.NewRuntimeServiceClient(c), runtimeapi.NewImageServiceClient(c)
	n.startKubelet()
	return n
}

func (n *node) path(name string) string { return filepath.Join(n.dir, name) }

// need skips the test when what it needs is missing, but fails in the full run.
func need(t *testing.T, ok bool, format string, args ...any) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv("CI") != "" || os.Getenv("BERTH_BIN") != "":
		t.Fatalf(format, args...)
	default:
		t.Skipf(format, args...)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func absolute(t *testing.T, elements ...string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func kubeletPath(t *testing.T) string {
	t.Helper()
	return absolute(t, "..", "..", ".cache", "kubelet")
}

// binary finds a program of the build.
func binary(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("BERTH_BIN")
	if dir == "" {
		dir = filepath.Join("..", "..", "bin")
	}
	path := absolute(t, dir, name)
	need(t, exists(path), "%s is not there (make build makes it)", path)
	return path
}

// serveImages serves the images on loopback and returns the address.
func (n *node) serveImages() string {
	n.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(bytes.NewBuffer(nil), "", 0))))
	n.Cleanup(server.Close)
	address := server.Listener.Addr().String()
	busybox, err := fixtures.BusyboxImage()
	need(n.T, err == nil, "busybox image: %v", err)
	layer, err := fixtures.Layer(fixtures.Text("spare", "spare\n"))
	if err != nil {
		n.Fatal(err)
	}
	other, err := fixtures.Image(v1.Config{}, layer)
	if err != nil {
		n.Fatal(err)
	}
	for ref, image := range map[string]v1.Image{image: busybox, spare: other} {
		at, err := name.ParseReference(strings.Replace(ref, upstream, address, 1), name.Insecure)
		if err != nil {
			n.Fatal(err)
		}
		if err := remote.Write(at, image); err != nil {
			n.Fatal(err)
		}
	}
	return address
}

// configure writes the configuration of berthd: images come from the mirror.
func (n *node) configure(mirror string) {
	n.Helper()
	n.write("certs.d/"+upstream+"/hosts.toml", fmt.Sprintf("server = \"http://%s\"\n[host.\"http://%s\"]\n", mirror, mirror))
	n.write("config.toml", fmt.Sprintf("[cgroup]\nparent = \"/%s\"\n[cri]\nsocket = %q\nnetwork = \"berth\"\n[daemon]\ndebug_socket = %q\n[registries]\ncerts_dirs = [%q]\n",
		n.parent, n.path("cri.sock"), n.path("debug.sock"), n.path("certs.d")))
}

// write writes a file below the node's folder, as a whole.
func (n *node) write(name, text string) {
	n.Helper()
	path, aside := n.path(name), n.path("aside-"+filepath.Base(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		n.Fatal(err)
	}
	if err := os.WriteFile(aside, []byte(text), 0o644); err != nil {
		n.Fatal(err)
	}
	if err := os.Rename(aside, path); err != nil {
		n.Fatal(err)
	}
}

// start starts a program, whose log goes on where the last one's ended.
func (n *node) start(name string, cmd *exec.Cmd) *program {
	n.Helper()
	p := &program{cmd: cmd, log: n.path(name + ".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		n.Fatal(err)
	}
	defer log.Close() //nolint:errcheck // the program has it
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		n.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // how it ended is in its log
	}()
	return p
}

func (p *program) end(sig syscall.Signal) {
	_ = p.cmd.Process.Signal(sig) // it may have ended
	late := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	<-p.done
}

// tail is the end of the log, without the flags of kubelets.
func (p *program) tail() string {
	const most = 12 << 10
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	var text strings.Builder
	for line := range strings.Lines(string(b)) {
		if !strings.Contains(line, "] FLAG: ") {
			text.WriteString(line)
		}
	}
	return text.String()[max(0, text.Len()-most):]
}

// startBerthd starts the daemon; the kubelet waits for it by itself.
func (n *node) startBerthd() {
	n.Helper()
	n.berthd = n.start("berthd", exec.CommandContext(context.WithoutCancel(n.Context()), binary(n.T, "berthd"), //nolint:gosec // of the build
		"--config", n.path("config.toml"), "--root", n.path("root"), "--state", n.path("state")))
}

// eventually waits until check returns "", and fails with what it returns when that takes
// too long.
func eventually(t *testing.T, check func() string) {
	t.Helper()
	const step = 200 * time.Millisecond
	var last string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(step) {
		if last = check(); last == "" {
			return
		}
	}
	t.Fatalf("after %s: %s", patience, last)
}

// answers waits until somebody listens at a TCP address.
func answers(ctx context.Context, address string) string {
	c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err.Error()
	}
	_ = c.Close() // it was made
	return ""
}
