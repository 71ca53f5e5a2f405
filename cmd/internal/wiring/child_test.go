package wiring_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/cmd/internal/wiring"
	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/test/fixtures"
)

// TestChildWithoutRootfs launches children in their parent's root filesystem. Each
// begins as a copy of the parent's mounts and has masks, and what shows its namespaces,
// of its own; the parent sees nothing of it.
func TestChildWithoutRootfs(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("containers need root")
	}
	dir := t.TempDir()
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		_ = os.Chmod(d, 0o755) // a user namespace has to get to the root filesystem
	}
	cfg := settings(dir)
	t.Cleanup(func() { fixtures.RemoveGroups(cfg.Cgroup.Parent) })
	build(t, cfg.Monitor, "./cmd/berth-monitor")
	e, err := wiring.New(cfg, "/nonexistent", log.Nop(), parts()).Engine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mapping := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 300_000, Size: 65536}}
	private := containerizer.Namespace{Mode: containerizer.NamespacePrivate}
	for name, in := range map[string]containerizer.Namespaces{
		"host's users": {},
		"own users":    {User: private, UIDMappings: mapping, GIDMappings: mapping},
	} {
		t.Run(name, func(t *testing.T) {
			rootfs := makeRootfs(t, filepath.Join(dir, filepath.Base(t.Name()), "rootfs"))
			_ = os.Chmod(filepath.Dir(rootfs), 0o755)
			parent := containerizer.ContainerID("childtest-parent")
			c := &family{e: e, parent: parent}
			spec := script(`mkdir -p /secret/in && echo x >/secret/file && echo x >/seen && echo ready >/ready; while :; do sleep 1000; done`)
			spec.RootfsPath, spec.Namespaces = rootfs, in
			spec.Network.None = true
			if _, err := e.Launch(t.Context(), parent, spec, containerizer.LaunchOptions{}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := e.Destroy(context.WithoutCancel(t.Context()), parent); err != nil {
					t.Error(err)
				}
			})
			c.exec(t, "the parent is up", `until [ -e /ready ]; do sleep 0.05; done`)
			c.run(t)
		})
	}
}

// family is a running parent.
type family struct {
	e      containerizer.Engine
	parent containerizer.ContainerID
}

func script(s string) *containerizer.Spec {
	return &containerizer.Spec{Process: containerizer.Process{Args: []string{"/bin/sh", "-c", s}}}
}

func (f *family) run(t *testing.T) {
	t.Helper()
	const (
		// proc is whose processes /proc shows, devices whose network /proc/net does.
		proc   = `read pid rest </proc/self/stat; [ "$pid" = $$ ] || exit 11; `
		masked = `[ -c /proc/timer_list ] || exit 12; [ -z "$(busybox ls /sys/firmware)" ] || exit 13; `
		sealed = `busybox grep -q "^proc /proc/sys proc ro" /proc/mounts || exit 14; `
	)
	mode := func(m containerizer.NamespaceMode) containerizer.Namespace { return containerizer.Namespace{Mode: m} }
	shared := mode(containerizer.NamespaceParent)
	for name, c := range map[string]struct {
		script string
		change func(*containerizer.Spec)
	}{
		"with the defaults": {`[ -e /seen ] || exit 10; ` + proc + masked + sealed, nil},
		"with the parent's processes": {
			masked + sealed + `[ "$(busybox tr '\0' ' ' </proc/1/cmdline | busybox cut -c -11)" = "/bin/sh -c " ] || exit 11`,
			func(s *containerizer.Spec) { s.Namespaces.PID = shared },
		},
		"with masks of its own": {
			`[ -e /seen ] || exit 10; [ -z "$(busybox ls /secret)" ] || exit 15; [ -c /ready ] || exit 16; ! [ -c /proc/timer_list ] || exit 12; ! echo x >/bin/new || exit 17`,
			func(s *containerizer.Spec) {
				s.Security.MaskedPaths = &[]string{"/secret", "/ready", "/nowhere"}
				s.Security.ReadonlyPaths = &[]string{"/bin"}
			},
		},
		"with messages of its own": {
			proc + masked + `! [ -e /dev/shm/left ] || exit 18; echo x >/dev/shm/left || exit 19; echo x >/dev/shm/mine || exit 19`,
			func(s *containerizer.Spec) { s.Namespaces.IPC = mode(containerizer.NamespacePrivate) },
		},
		"without a network": {
			proc + masked + `[ "$(busybox ls /sys/class/net)" = lo ] || exit 20; [ "$(busybox readlink /proc/self/ns/net)" != "$PARENT_NET" ] || exit 21`,
			func(s *containerizer.Spec) { s.Network.None = true },
		},
		"without privilege to mask": {proc + masked, func(s *containerizer.Spec) { s.Process.User = "65534" }},
		"on a terminal":             {proc + masked + `[ -t 0 ] || exit 22`, func(s *containerizer.Spec) { s.Process.Terminal = true }},
		"in a namespace of its own": {proc + masked, func(s *containerizer.Spec) { s.Namespaces.UTS = mode(containerizer.NamespacePrivate) }},
		"with a mount of its own": {proc + masked + `[ -z "$(busybox ls /secret)" ] || exit 23; echo x >/secret/mine || exit 24`, func(s *containerizer.Spec) {
			s.Mounts = []containerizer.Mount{{Type: containerizer.MountTmpfs, Destination: "/secret"}}
		}},
		"whose paths are links upward": {`[ -z "$(busybox ls /secret)" ] || exit 15`, func(s *containerizer.Spec) { s.Security.MaskedPaths = &[]string{"/up/secret"} }},
	} {
		t.Run(name, func(t *testing.T) {
			f.exec(t, "the parent makes a link", `[ -h /up ] || busybox ln -s .. /up`)
			spec := script(c.script)
			if c.change != nil {
				c.change(spec)
			}
			spec.Process.Env = append(spec.Process.Env, "PARENT_NET="+f.network(t))
			id := f.parent.Child("child")
			if _, err := f.e.Launch(t.Context(), id, spec, containerizer.LaunchOptions{}); err != nil {
				t.Fatal(err)
			}
			if end, err := f.e.Wait(t.Context(), id); err != nil || end.ExitCode != 0 {
				t.Errorf("the child ended as %+v, %v; see the script", end, err)
			}
			if err := f.e.Destroy(t.Context(), id); err != nil {
				t.Error(err)
			}
			f.exec(t, "the parent's files are as before", `[ -e /secret/file ] && [ "$(busybox cat /ready)" = ready ] && ! [ -e /secret/mine ] && ! [ -e /dev/shm/mine ]`)
		})
	}
}

// network names the parent's network namespace.
func (f *family) network(t *testing.T) string {
	t.Helper()
	s, err := f.e.Status(t.Context(), f.parent)
	if err != nil {
		t.Fatal(err)
	}
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", s.PID))
	if err != nil {
		t.Fatal(err)
	}
	return link
}

// exec runs a script in the parent, which has to end well.
func (f *family) exec(t *testing.T, what, s string) {
	t.Helper()
	p, err := f.e.Exec(t.Context(), f.parent, &containerizer.Process{Args: []string{"/bin/sh", "-c", s}}, nil)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer func() { _ = p.Close() }() // it has ended
	if end, err := p.Wait(t.Context()); err != nil || end.ExitCode != 0 {
		t.Fatalf("%s: %+v, %v", what, end, err)
	}
}
