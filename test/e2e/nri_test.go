package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
)

// nriNode is a node whose daemon speaks with NRI plug-ins.
type nriNode struct {
	*node
	socket, plugins, configs string
}

// newNRINode makes the node; its daemon is started by serve.
func newNRINode(t *testing.T) *nriNode {
	t.Helper()
	dir := t.TempDir()
	n := &nriNode{newNode(t), filepath.Join(dir, "nri.sock"), filepath.Join(dir, "plugins"), filepath.Join(dir, "conf.d")}
	for _, d := range []string{n.plugins, n.configs} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(n.configPath(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(f, "[nri]\nenable = true\nsocket_path = %q\nplugin_path = %q\nplugin_config_path = %q\nplugin_request_timeout = \"1s\"\n", n.socket, n.plugins, n.configs)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return n
}

// install puts this test's binary among the plug-ins that berthd starts.
func (n *nriNode) install(name string, config installedConfig) {
	n.t.Helper()
	self, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(n.plugins, name)); err != nil {
		n.t.Fatal(err)
	}
	text, err := json.Marshal(config)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.configs, name+".conf"), text, 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// connect connects a plug-in, which is synchronised when this returns. gone is closed
// when its connection ends.
func (n *nriNode) connect(p *nriPlugin) (s stub.Stub, gone chan struct{}) {
	n.t.Helper()
	gone = make(chan struct{})
	s, err := stub.New(p, stub.WithSocketPath(n.socket), stub.WithPluginName("test"), stub.WithPluginIdx("10"), stub.WithOnClose(func() { close(gone) }))
	if err != nil {
		n.t.Fatal(err)
	}
	eventually(n.t, func() string { // its daemon is ready before it listens for plug-ins
		if err := s.Start(context.WithoutCancel(n.t.Context())); err != nil {
			return err.Error()
		}
		return ""
	})
	n.t.Cleanup(s.Stop)
	eventually(n.t, func() string { // and takes up a plug-in after it has answered
		if !strings.Contains(n.daemon.log.String(), "connected and synchronized") {
			return "the plug-in is not taken up: " + n.daemon.log.String()
		}
		return ""
	})
	return s, gone
}

// TestDaemonNRI: a plug-in changes a container and hears of its life.
func TestDaemonNRI(t *testing.T) {
	t.Parallel()
	n := newNRINode(t)
	shared := t.TempDir()
	if err := os.WriteFile(filepath.Join(shared, "file"), []byte("of the host\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.serveDebug()
	p := &nriPlugin{
		onCreate: func(*api.Container) (*api.ContainerAdjustment, error) {
			a := &api.ContainerAdjustment{}
			a.AddEnv("FROM_PLUGIN", "hello")
			a.AddMount(&api.Mount{Destination: "/from-plugin", Source: shared, Type: "bind", Options: []string{"rbind", "ro"}})
			a.AddAnnotation("of", "plug-in")
			a.AddRlimit("RLIMIT_NOFILE", 77, 55)
			a.SetLinuxMemoryLimit(64 << 20)
			a.SetLinuxOomScoreAdj(new(321))
			a.AddDevice(&api.LinuxDevice{Path: "/dev/mine", Type: "c", Major: 10, Minor: 237}) // /dev/loop-control
			return a, nil
		},
		onUpdate: func(*api.Container, *api.LinuxResources) *api.LinuxResources {
			r := &api.LinuxResources{Memory: &api.LinuxMemory{Limit: api.Int64(int64(96 << 20))}}
			return r
		},
	}
	s, _ := n.connect(p)
	id := n.must(n.run([]string{"-d", "-e", "FROM_PLUGIN=nothing"}, "sh", "-c",
		`echo "$FROM_PLUGIN-$(cat /from-plugin/file)-$(ulimit -Sn)-$(cat /proc/self/oom_score_adj)"; [ -c /dev/mine ] && echo device; touch /from-plugin/x || echo read-only; sleep 1000`)...)
	eventually(t, func() string {
		if got := n.must("logs", id); !strings.Contains(got, "hello-of the host-55-321\ndevice\n") || !strings.Contains(got, "read-only") {
			return "the container says " + got
		}
		return ""
	})
	if got := n.inspect(id, "{{.HostConfig.Memory}}"); got != fmt.Sprint(64<<20) {
		t.Errorf("the memory limit is %s, want what the plug-in set", got)
	}
	eventually(t, func() string {
		if got := p.events(id); got != "RunPod Create PostCreate Start PostStart" {
			return "the plug-in heard " + got
		}
		return ""
	})
	n.must("update", "-m", "80m", id)
	if got := n.inspect(id, "{{.HostConfig.Memory}}"); got != fmt.Sprint(96<<20) {
		t.Errorf("the memory limit is %s after an update, want what the plug-in made of it", got)
	}
	failed, err := s.UpdateContainers([]*api.ContainerUpdate{{ContainerId: id, Linux: &api.LinuxContainerUpdate{Resources: &api.LinuxResources{Memory: &api.LinuxMemory{Limit: api.Int64(int64(48 << 20))}}}}})
	if err != nil || len(failed) > 0 {
		t.Errorf("an update of the plug-in's own: %v, %v", failed, err)
	}
	if got := n.inspect(id, "{{.HostConfig.Memory}}"); got != fmt.Sprint(48<<20) {
		t.Errorf("the memory limit is %s, want that of the plug-in's own update", got)
	}
	failed, err = s.UpdateContainers([]*api.ContainerUpdate{{ContainerId: "nobody", Linux: &api.LinuxContainerUpdate{Resources: &api.LinuxResources{}}}})
	if err == nil && len(failed) != 1 {
		t.Errorf("an update of a container that is not there: %v, %v", failed, err)
	}
	n.must("rm", "-f", id)
	eventually(t, func() string {
		if got := p.events(id); got != "RunPod Create PostCreate Start PostStart Update Stop Remove StopPod RemovePod" {
			return "the plug-in heard " + got
		}
		return ""
	})
}

// serveDebug starts the daemon with what it has to tell.
func (n *nriNode) serveDebug() {
	n.t.Helper()
	f, err := os.OpenFile(n.configPath(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	_, err = f.WriteString("[daemon]\nlog_level = \"debug\"\n")
	if err := errors.Join(err, f.Close()); err != nil {
		n.t.Fatal(err)
	}
	n.serve()
}

// TestDaemonNRIRefuses: a plug-in forbids containers, or asks for what cannot be; and
// nothing is left.
func TestDaemonNRIRefuses(t *testing.T) {
	t.Parallel()
	n := newNRINode(t)
	n.serveDebug()
	p := &nriPlugin{onCreate: func(c *api.Container) (*api.ContainerAdjustment, error) {
		a := &api.ContainerAdjustment{}
		switch c.GetAnnotations()["want"] {
		case "veto":
			return nil, errors.New("not on my node")
		case "cgroup":
			a.SetLinuxCgroupsPath("/elsewhere")
		case "cdi":
			a.AddCDIDevice(&api.CDIDevice{Name: "vendor.com/gpu=all"})
		case "rdt":
			a.SetLinuxRDTClass("gold")
		case "device":
			a.AddDevice(&api.LinuxDevice{Path: "/dev/x", Type: "c", Major: 4000, Minor: 1})
		case "mount":
			a.AddMount(&api.Mount{Destination: "../x", Source: "/", Type: "bind"})
		}
		return a, nil
	}}
	n.connect(p)
	for want, says := range map[string]string{
		"veto": "not on my node", "cgroup": "cgroups path", "cdi": "vendor.com/gpu=all", "rdt": "RDT", "device": "no such device", "mount": "absolute",
	} {
		if r := n.berth(n.run([]string{"--rm", "--annotation", "want=" + want}, "true")...); r.code != 125 || !strings.Contains(r.stderr, says) {
			t.Errorf("%s: %+v, want 125 and %q", want, r, says)
		}
	}
	if got := n.must("ps", "-aq"); got != "" {
		t.Errorf("there are containers %q", got)
	}
	n.must(n.run([]string{"--rm"}, "true")...)
}

// TestDaemonNRIInstalled: plug-ins that berthd starts, in the order of their indices, and
// what became of those that crash.
func TestDaemonNRIInstalled(t *testing.T) {
	t.Parallel()
	n := newNRINode(t)
	n.install("20-second", installedConfig{Set: "SECOND", Value: "2", Copy: "FIRST"})
	n.install("10-first", installedConfig{Set: "FIRST", Value: "1"})
	n.install("30-crashes", installedConfig{Do: "crash"})
	n.serveDebug()
	for range 2 {
		if got := n.must(n.run([]string{"--rm"}, "sh", "-c", "echo $FIRST-$SECOND")...); got != "1-21" {
			t.Errorf("the container says %q", got)
		}
	}
	if got := n.daemon.log.String(); !strings.Contains(got, "30-crashes") {
		t.Errorf("nothing in the log is about the plug-in that crashed: %s", got)
	}
}

// TestDaemonNRIHangs: a plug-in that never answers is disconnected, and holds up nobody
// who does not make a container.
func TestDaemonNRIHangs(t *testing.T) {
	t.Parallel()
	n := newNRINode(t)
	n.serveDebug()
	running := n.detached(nil, "sleep", "1000")
	asked, release := make(chan struct{}, 8), make(chan struct{})
	p := &nriPlugin{onCreate: func(*api.Container) (*api.ContainerAdjustment, error) {
		asked <- struct{}{}
		<-release
		return nil, nil
	}}
	_, gone := n.connect(p)
	defer close(release)
	cmd := n.command(t.Context(), n.run([]string{"--rm", "--name", "held-up"}, "true")...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-asked
	if got := n.must("ps", "-a", "--format", "{{.Names}} {{.State}}"); !strings.Contains(got, "held-up preparing") {
		t.Errorf("ps shows %q while a plug-in does not answer", got)
	}
	if got := n.must("exec", running, "echo", "there"); got != "there" {
		t.Errorf("exec says %q while a plug-in does not answer", got)
	}
	n.must("pause", running)
	n.must("unpause", running)
	// Those that come meanwhile wait for that time-out, and none for one of its own.
	var others [3]func() (string, error)
	for i := range others {
		others[i] = n.background(n.run([]string{"--rm"}, "true")...)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the container that was held up: %v", err)
	}
	for _, wait := range others {
		if out, err := wait(); err != nil {
			t.Errorf("a container that came meanwhile: %v: %s", err, out)
		}
	}
	select {
	case <-gone:
	case <-time.After(patience):
		t.Error("the plug-in is still connected")
	}
	n.must(n.run([]string{"--rm"}, "true")...)
	if len(asked) > 0 {
		t.Error("the plug-in was asked again")
	}
}

// TestDaemonNRISynchronizes: who connects is shown what runs, by the next daemon as well.
func TestDaemonNRISynchronizes(t *testing.T) {
	t.Parallel()
	n := newNRINode(t)
	n.serveDebug()
	id := n.detached(nil, "sleep", "1000")
	ended := n.detached(nil, "true")
	n.must("wait", ended)
	check := func(p *nriPlugin) {
		t.Helper()
		if got := p.events(id); got != "SyncPod Sync:CONTAINER_RUNNING" {
			t.Errorf("the plug-in heard %q of what runs", got)
		}
		if got := p.events(ended); got != "SyncPod Sync:CONTAINER_STOPPED" {
			t.Errorf("the plug-in heard %q of what has ended", got)
		}
	}
	first := &nriPlugin{}
	_, gone := n.connect(first)
	check(first)
	n.daemon.end(syscall.SIGKILL)
	<-gone
	n.serve()
	second := &nriPlugin{}
	n.connect(second)
	check(second)
	n.must("rm", "-f", id)
	eventually(t, func() string {
		if got := second.events(id); got != "SyncPod Sync:CONTAINER_RUNNING Stop Remove StopPod RemovePod" {
			return "the plug-in heard " + got
		}
		return ""
	})
}
