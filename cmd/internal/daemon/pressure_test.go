package daemon_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/cmd/internal/daemon"
	"github.com/berth-dev/berth/containerizer"
)

// memory writes a file as the kernel's, with so many KiB available.
func memory(t *testing.T, path, available string) {
	t.Helper()
	aside := path + ".new"
	if err := os.WriteFile(aside, []byte("MemTotal:       16000000 kB\nMemFree:          100000 kB\nMemAvailable:   "+available+" kB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(aside, path); err != nil {
		t.Fatal(err)
	}
}

// condition is how one is, as a client sees it.
func (l *live) condition(name string) (active bool, message string) {
	l.Helper()
	info, err := l.client.Info(l.Context())
	if err != nil {
		l.Fatal(err)
	}
	for _, c := range info.GetConditions() {
		if c.GetName() == name {
			return c.GetActive(), c.GetMessage()
		}
	}
	l.Fatalf("no condition %q in %v", name, info)
	return false, ""
}

// TestMemoryPressure: it is told, and new containers are refused where that is wanted;
// those that run are left alone.
func TestMemoryPressure(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("containers need root")
	}
	for _, refuse := range []bool{false, true} {
		n := newCrashNode(t)
		path := filepath.Join(t.TempDir(), "meminfo")
		memory(t, path, "2000000")
		debug := filepath.Join(n.dir, "debug.sock")
		kubelets := filepath.Join(n.dir, "cri.sock")
		l := serveLive(t, n.dir, setup{
			config: func(c *config.Config) {
				c.Pressure, c.Daemon.DebugSocket = config.Pressure{MemoryAvailable: "1g", RefuseLaunches: refuse}, debug
				c.CRI = config.CRI{Socket: kubelets, Network: "berth"}
			},
			options: func(o *daemon.Options) { o.MemInfo = path },
		})
		e := l.client.Containers
		if active, message := l.condition("MemoryPressure"); active || !strings.Contains(message, "1.907GiB are available") {
			t.Errorf("with enough memory: %v, %q", active, message)
		}
		if _, err := e.Launch(t.Context(), "first", n.spec("while :; do sleep 1000; done"), containerizer.LaunchOptions{}); err != nil {
			t.Fatal(err)
		}
		memory(t, path, "1000")
		eventually(t, func() string {
			if active, message := l.condition("MemoryPressure"); !active {
				return "no pressure: " + message
			}
			return ""
		})
		_, err := e.Launch(t.Context(), "second", n.spec("exit 0"), containerizer.LaunchOptions{})
		if refuse && !errors.Is(err, containerizer.ErrUnavailable) || !refuse && err != nil {
			t.Errorf("Launch under pressure, refusing %v: %v", refuse, err)
		}
		if refuse {
			if err := runPod(t, kubelets); status.Code(err) != codes.Unavailable {
				t.Errorf("RunPodSandbox under pressure: %v", err)
			}
		}
		if s, err := e.Status(t.Context(), "first"); err != nil || s.State != containerizer.StateRunning {
			t.Errorf("what runs is %+v, %v", s, err)
		}
		metrics := scrape(t, debug)
		if !strings.Contains(metrics, `berth_node_pressure{condition="MemoryPressure"} 1`) {
			t.Error("the metrics do not say so")
		}
		if got := strings.Contains(metrics, `berth_refused_total{reason="memory"} 2`); got != refuse {
			t.Errorf("a refusal is counted: %v, want %v", got, refuse)
		}
		for _, id := range []containerizer.ContainerID{"first", "second"} {
			if err := e.Destroy(t.Context(), id); err != nil {
				t.Error(err)
			}
		}
	}
}

// runPod asks for a pod sandbox as a kubelet does.
func runPod(t *testing.T, socket string) error {
	t.Helper()
	c, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // of a test
	_, err = runtimeapi.NewRuntimeServiceClient(c).RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{
		Config: &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: "p", Uid: "u", Namespace: "n"}},
	})
	return err
}

// TestDiskPressure: a file system without room is told.
func TestDiskPressure(t *testing.T) {
	for share, want := range map[string]bool{"1%": false, "100%": true} { // nothing has all of it left
		l := serveLive(t, "", setup{config: func(c *config.Config) {
			c.Pressure.DiskAvailable = share
			if err := os.MkdirAll(c.Root, 0o700); err != nil {
				t.Fatal(err)
			}
		}})
		if active, message := l.condition("DiskPressure"); active != want {
			t.Errorf("disk_available = %s: %v (%s), want %v", share, active, message, want)
		}
	}
}

// TestTooManyCalls: calls beyond the bound are refused at once, and those of the health
// service are not.
func TestTooManyCalls(t *testing.T) {
	l := serveLive(t, "", setup{config: func(c *config.Config) { c.Daemon.MaxCalls = 3 }})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for range 3 {
		events, err := l.client.Containers.Events(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for range events { // until it ends
			}
		})
	}
	if _, err := l.client.Info(ctx); !errors.Is(err, containerizer.ErrResourceExhausted) && (err == nil || !strings.Contains(err.Error(), "3 calls are in progress")) {
		t.Errorf("a call beyond the bound: %v", err)
	}
	if err := l.client.WaitReady(ctx); err != nil {
		t.Errorf("health: %v", err)
	}
	cancel()
	wg.Wait()
	eventually(t, func() string {
		if _, err := l.client.Info(t.Context()); err != nil {
			return err.Error()
		}
		return ""
	})
}

// scrape reads the metrics from the socket for debugging.
func scrape(t *testing.T, socket string) string {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer c.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://berth/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v", response.Status, err)
	}
	return string(b)
}

// TestMetricsAreDocumented: docs/daemon.md lists exactly what a daemon serves, with its
// labels; and phases of launches are histograms.
func TestMetricsAreDocumented(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("containers need root")
	}
	n := newCrashNode(t)
	debug := filepath.Join(n.dir, "debug.sock")
	l := serveLive(t, n.dir, setup{config: func(c *config.Config) { c.Daemon.DebugSocket = debug; c.Daemon.MaxCalls = 2 }})
	e := l.client.Containers
	if _, err := e.Launch(t.Context(), "c", n.spec("exit 0"), containerizer.LaunchOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := e.Destroy(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	// One that is refused, so that what counts them is there.
	ctx, cancel := context.WithCancel(t.Context())
	for range 2 {
		if _, err := e.Events(ctx, 0); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = e.List(t.Context(), containerizer.Filter{}) // that one
	cancel()
	var text string
	eventually(t, func() string { // events come a moment later
		if text = scrape(t, debug); !strings.Contains(text, `berth_events_total{type="destroyed"}`) {
			return "no event is counted"
		}
		return ""
	})
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var served []string
	for name, f := range families {
		if !strings.HasPrefix(name, "berth_") {
			if !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
				t.Errorf("%s is of no family that the documentation names", name)
			}
			continue
		}
		var labels []string
		for _, pair := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, pair.GetName())
		}
		slices.Sort(labels)
		if len(labels) > 0 {
			name += "{" + strings.Join(labels, ",") + "}"
		}
		served = append(served, name)
	}
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "daemon.md"))
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for line := range strings.Lines(string(b)) {
		name, is := strings.CutPrefix(line, "| `berth_")
		if !is {
			continue
		}
		name, _, _ = strings.Cut("berth_"+name, "`")
		name, labels, has := strings.Cut(strings.TrimSuffix(name, "}"), "{")
		if has {
			list := strings.Split(labels, ",")
			slices.Sort(list)
			name += "{" + strings.Join(list, ",") + "}"
		}
		documented = append(documented, name)
	}
	slices.Sort(served)
	slices.Sort(documented)
	if !slices.Equal(served, documented) {
		t.Errorf("served are\n%s\ndocumented are\n%s", strings.Join(served, "\n"), strings.Join(documented, "\n"))
	}
	for _, phase := range []string{"launch.name", "launch.isolator", "launch.process", "launch.state"} {
		if !strings.Contains(text, `berth_step_seconds_bucket{step="`+phase+`",le="+Inf"}`) {
			t.Errorf("the phase %s is no histogram", phase)
		}
	}
	if !strings.Contains(text, `berth_operation_seconds_count{operation="launch",outcome="ok"} 1`) {
		t.Error("the launch is not counted")
	}
}
