package network_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"
	"go.uber.org/zap/zaptest"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/isolators/isolatortest"
	"github.com/berth-dev/berth/isolators/network"
	"github.com/berth-dev/berth/isolators/network/internal/nat"
	"github.com/berth-dev/berth/isolators/network/internal/nettest"
)

func TestMain(m *testing.M) {
	if os.Getenv(victimEnv) != "" {
		os.Exit(beVictim())
	}
	nettest.Main(m, func() {
		if pluginDir != "" {
			_ = os.RemoveAll(pluginDir) // a temporary folder
		}
	})
}

// pluginDir is a folder for plugins to build them in, "" before.
var pluginDir string

func testContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Minute)
}

// node is a node of a test: directories, and the host's files.
type node struct{ opts network.Options }

func newNode(t *testing.T) *node {
	t.Helper()
	dir := t.TempDir()
	n := &node{opts: network.Options{
		StateDir: filepath.Join(dir, "state"), RootDir: filepath.Join(dir, "root"), HostRoot: filepath.Join(dir, "host"),
		PluginDirs: []string{filepath.Join(dir, "plugins")},
	}}
	n.opts.ConfigDirs = []string{filepath.Join(dir, "net.d")}
	n.host(t, "etc/resolv.conf", "nameserver 198.51.100.53\nsearch example.org\n")
	n.host(t, "etc/hosts", "127.0.0.1 localhost\n192.0.2.9 host.example\n")
	t.Cleanup(func() { removeBridges(t) })
	return n
}

// host writes a file of the host.
func (n *node) host(t *testing.T, name, text string) {
	t.Helper()
	write(t, filepath.Join(n.opts.HostRoot, name), text)
}

// conf writes a network configuration.
func (n *node) conf(t *testing.T, name, text string) {
	t.Helper()
	write(t, filepath.Join(n.opts.ConfigDirs[0], name), text)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (n *node) isolator(t *testing.T) *network.Isolator {
	t.Helper()
	return network.New(log.New(zaptest.NewLogger(t).Core()), n.opts)
}

func removeBridges(t *testing.T) {
	t.Helper()
	if !nettest.Isolated() {
		return // never the machine's
	}
	links, err := netlink.LinkList()
	if err != nil {
		t.Error(err)
	}
	for _, l := range links {
		if l.Type() == "bridge" {
			if err := netlink.LinkDel(l); err != nil {
				t.Error(err)
			}
		}
	}
	table, err := nat.Open()
	if err != nil {
		t.Error(err)
		return
	}
	if err := errors.Join(table.Drop(), table.Close()); err != nil {
		t.Error(err)
	}
}

// leftovers lists files and interfaces.
func (n *node) leftovers(t *testing.T, id containerizer.ContainerID) []string {
	t.Helper()
	var left []string
	for _, dir := range []string{n.opts.StateDir, n.opts.RootDir} {
		_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() && !strings.Contains(path, string(id)) {
				return nil //nolint:nilerr // what cannot be read is not there
			}
			b, err := os.ReadFile(path)
			if strings.Contains(path, string(id)) || err == nil && strings.Contains(string(b), string(id)) {
				left = append(left, path)
			}
			return nil
		})
	}
	return left
}

// wires counts cables that are plugged in, and published ports.
func wires(t *testing.T) (cables []string, ports []nat.Mapping) {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Type() == "veth" && l.Attrs().MasterIndex != 0 {
			cables = append(cables, l.Attrs().Name)
		}
	}
	table, err := nat.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = table.Close() }()
	if ports, err = table.Published(); err != nil {
		t.Fatal(err)
	}
	return cables, ports
}

// container is a container with a namespace, run through Prepare and Isolate.
type container struct {
	*isolatortest.Fixture
	ns   *nettest.Namespace
	info *containerizer.LaunchInfo
}

func withImage(n containerizer.Network) *containerizer.Spec {
	return &containerizer.Spec{Image: &containerizer.ImageSource{Reference: "x"}, Network: n}
}

// run launches a container and cleans it up at the end.
func (n *node) run(t *testing.T, spec *containerizer.Spec) *container {
	t.Helper()
	nettest.Need(t)
	c := &container{Fixture: isolatortest.NewContainer(t, spec), ns: nettest.New(t)}
	iso := n.isolator(t)
	t.Cleanup(func() {
		if err := n.isolator(t).Cleanup(context.WithoutCancel(t.Context()), c.Damaged()); err != nil {
			t.Errorf("Cleanup() = %v", err)
		}
		if left := n.leftovers(t, c.ID); len(left) > 0 {
			t.Errorf("left of %s: %q", c.ID, left)
		}
	})
	var err error
	if c.info, err = iso.Prepare(t.Context(), c.Container); err != nil {
		t.Fatalf("Prepare() = %v", err)
	}
	c.NamespacePath = func(id containerizer.ContainerID, _ specs.LinuxNamespaceType) (string, error) {
		if id != c.ID {
			return "", fmt.Errorf("container %q: %w", id, containerizer.ErrNotFound)
		}
		return c.ns.Path(), nil
	}
	if c.info.Barrier {
		if err := iso.Isolate(t.Context(), c.Container, c.ns.PID()); err != nil {
			t.Fatalf("Isolate() = %v", err)
		}
	}
	return c
}

func (n *node) status(t *testing.T, c *container) containerizer.Status {
	t.Helper()
	var s containerizer.Status
	if err := n.isolator(t).Status(t.Context(), c.Container, &s); err != nil {
		t.Fatalf("Status() = %v", err)
	}
	return s
}

// file is the content of what is mounted on a path of the container.
func (c *container) file(t *testing.T, destination string) string {
	t.Helper()
	return mounted(t, c.info, destination)
}

func mounted(t *testing.T, info *containerizer.LaunchInfo, destination string) string {
	t.Helper()
	at := slices.IndexFunc(info.Mounts, func(m specs.Mount) bool { return m.Destination == destination })
	if at < 0 {
		return "(no mount)"
	}
	b, err := os.ReadFile(info.Mounts[at].Source)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// plugins finds or builds the real plug-ins once.
var plugins = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "berth-cni-")
	if err != nil {
		return "", err
	}
	pluginDir = dir
	return nettest.Plugins(context.Background(), dir, "main/bridge", "ipam/host-local", "ipam/static", "meta/portmap", "meta/firewall", "meta/tuning")
})
