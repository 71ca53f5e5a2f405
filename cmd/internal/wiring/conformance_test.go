package wiring_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/cmd/internal/wiring"
	"github.com/berth-dev/berth/containerizer"
	grpcadapter "github.com/berth-dev/berth/containerizer/adapter/grpc"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/client"
	"github.com/berth-dev/berth/containerizer/engine"
	"github.com/berth-dev/berth/containerizer/enginetest"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/test/fixtures"
)

func TestMain(m *testing.M) {
	if args := os.Args; len(args) > 3 && args[len(args)-3] == "system" && args[len(args)-2] == "reap" {
		if err := reap(args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// parts fetch nothing: the containers of the suite have directories.
func parts() wiring.Parts {
	return wiring.Parts{Fetcher: func(config.Config) containerizer.Fetcher { return nil }}
}

// settings are those of a node in dir, which is a test's.
func settings(dir string) config.Config {
	root := filepath.Join(dir, "root")
	return config.Config{
		Root: root, State: filepath.Join(dir, "state"), Monitor: filepath.Join(root, "berth-monitor"),
		Cgroup: config.Cgroup{Parent: "/berth-wiring-" + filepath.Base(filepath.Dir(dir))},
	}
}

// reap does as `berth --root ROOT --state STATE … system reap ID` does.
func reap(args []string) error {
	cfg := settings(filepath.Dir(args[1]))
	n := wiring.New(cfg, "/nonexistent", log.Nop(), parts())
	e, err := n.Engine(context.Background())
	if err != nil {
		return err
	}
	return e.(*engine.Engine).Reap(context.Background(), containerizer.ContainerID(args[len(args)-1]))
}

// TestConformance runs the suite of engines over everything that berth is made
// of: monitor, launcher, isolators and the kernel.
func TestConformance(t *testing.T) {
	runSuite(t, parts(), func(_ *testing.T, _ *wiring.Node, e containerizer.Engine) containerizer.Engine { return e })
}

// TestConformanceOverGRPC runs it over a client of a server of the same.
func TestConformanceOverGRPC(t *testing.T) {
	p := parts()
	p.Resident = true
	runSuite(t, p, overGRPC)
}

// runSuite runs the suite over engines of a node, as view sees them.
func runSuite(t *testing.T, parts wiring.Parts, view func(*testing.T, *wiring.Node, containerizer.Engine) containerizer.Engine) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("containers need root")
	}
	dir := t.TempDir()
	cfg := settings(dir)
	t.Cleanup(func() { fixtures.RemoveGroups(cfg.Cgroup.Parent) })
	if err := os.MkdirAll(cfg.Root, 0o700); err != nil {
		t.Fatal(err)
	}
	build(t, cfg.Monitor, "./cmd/berth-monitor")
	rootfs := makeRootfs(t, filepath.Join(dir, "rootfs"))
	process := func(script string) containerizer.Process {
		return containerizer.Process{Args: []string{"/bin/sh", "-c", script}}
	}
	before := leftovers(t, cfg) // somebody else may run the suite, too
	enginetest.Run(t, enginetest.Config{
		New: func(t *testing.T) containerizer.Engine {
			t.Helper()
			n := wiring.New(cfg, "/nonexistent", log.Nop(), parts)
			e, err := n.Engine(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := n.Close(); err != nil {
					t.Error(err)
				}
			})
			return view(t, n, e)
		},
		Spec: func(script string) *containerizer.Spec {
			return &containerizer.Spec{RootfsPath: rootfs, Process: process(script), Network: containerizer.Network{None: true}}
		},
		Child: func(script string) *containerizer.Spec {
			return &containerizer.Spec{
				RootfsPath: rootfs, Process: process(script),
			}
		},
		Freezes: true,
		Leftovers: func(t *testing.T) []string {
			t.Helper()
			return slices.DeleteFunc(leftovers(t, cfg), func(s string) bool { return slices.Contains(before, s) })
		},
	})
}

// overGRPC serves e on a socket and returns a client that is connected to it.
func overGRPC(t *testing.T, n *wiring.Node, e containerizer.Engine) containerizer.Engine {
	t.Helper()
	images, err := n.Images(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	store, _ := images.(grpcadapter.Store)
	dir, err := os.MkdirTemp("", "berth-grpc-") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(dir, "berth.sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(grpcadapter.UnaryErrors), grpc.StreamInterceptor(grpcadapter.StreamErrors))
	(&grpcadapter.Server{Engine: e, Images: store}).Register(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	c, err := client.New("unix://"+listener.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Containers.List(t.Context(), containerizer.Filter{}); err != nil { // connects
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := c.Close()
		server.Stop()
		if err = errors.Join(err, <-served, os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return c.Containers
}

func build(t *testing.T, out, pkg string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out, pkg)
	cmd.Dir = filepath.Join("..", "..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, b)
	}
}

// makeRootfs makes a root filesystem of busybox.
func makeRootfs(t *testing.T, dir string) string {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("there is no busybox to make a root filesystem of")
	}
	content, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"bin", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "bin", "busybox"), content, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "sleep"} {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "etc", "passwd"), []byte("root:x:0:0::/root:/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// leftovers lists what containers of the suite left in the folders of berth, in
// the control groups and in the mount table.
func leftovers(t *testing.T, cfg config.Config) []string {
	t.Helper()
	var left []string
	for _, d := range []string{
		filepath.Join(cfg.State, "containers"), filepath.Join(cfg.State, "names"), filepath.Join(cfg.Root, "records"),
	} {
		found, err := os.ReadDir(d)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for _, f := range found {
			if !strings.HasPrefix(f.Name(), ".lock") {
				left = append(left, filepath.Join(d, f.Name()))
			}
		}
	}
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(d.Name(), "enginetest-") {
			left = append(left, path)
		}
		return nil // groups come and go
	})
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "enginetest-") {
			left = append(left, "mount "+line)
		}
	}
	return left
}
