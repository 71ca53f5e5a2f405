package cri

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-dev/berth/containerizer"
)

// TestMetricsAreAsDescribed measures everything, and then nothing: values have the labels
// that are described, and what is not measured is not there.
func TestMetricsAreAsDescribed(t *testing.T) {
	pod := item{&containerizer.Status{ID: "p", Spec: &containerizer.Spec{}}, &record{pod: &runtimeapi.RunPodSandboxRequest{Config: &runtimeapi.PodSandboxConfig{Metadata: meta("p")}}}}
	container := item{&containerizer.Status{ID: "p.c", Spec: &containerizer.Spec{}}, &record{container: &runtimeapi.CreateContainerRequest{}}}
	pressure := &containerizer.Pressure{}
	kernel, swap := uint64(7), uint64(0)
	all := &containerizer.Usage{
		CPU:     &containerizer.CPUUsage{Pressure: pressure},
		Memory:  &containerizer.MemoryUsage{Pressure: pressure, KernelBytes: &kernel, SwapLimitBytes: &swap},
		IO:      &containerizer.IOUsage{Pressure: pressure, Devices: []containerizer.DeviceIO{{Major: 7, Minor: 999, ReadBytes: 1}}},
		PIDs:    &containerizer.PIDsUsage{},
		Network: []containerizer.NetworkUsage{{Interface: "eth0"}},
		Disk:    &containerizer.DiskUsage{},
	}
	node, list := newNodeFS(t.TempDir()), metricsList()
	described, err := (*runtimeService)(nil).ListMetricDescriptors(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, ofPod := range []bool{true, false} {
		i := container
		if ofPod {
			i = pod
		}
		for _, m := range measure(list, &measured{all, node, &openFiles{sockets: &swap, limit: 1}}, i, pod, ofPod) {
			got[m.GetName()] = len(m.GetLabelValues())
		}
	}
	for _, d := range described.GetDescriptors() {
		if n := got[d.GetName()]; n != len(d.GetLabelKeys()) || d.GetHelp() == "" {
			t.Errorf("%s has %d values of labels, %d are described; help %q", d.GetName(), n, len(d.GetLabelKeys()), d.GetHelp())
		}
	}
	for _, m := range measure(list, &measured{&containerizer.Usage{}, newNodeFS("/nonexistent"), nil}, container, pod, false) {
		switch m.GetName() {
		case "container_spec_cpu_period", "container_spec_cpu_shares", "container_start_time_seconds", "container_last_seen":
		default:
			t.Errorf("%s = %d, which nobody has measured", m.GetName(), m.GetValue().GetValue())
		}
	}
}

// TestOpenFiles counts those of two processes, of which one has two sockets more.
func TestOpenFiles(t *testing.T) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var sockets []*os.File
	for _, fd := range pair {
		sockets = append(sockets, os.NewFile(uintptr(fd), "socket"))
	}
	cmd := exec.CommandContext(t.Context(), "cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = sockets
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	one, both := countOpenFiles([]int{pid}), countOpenFiles([]int{os.Getpid(), pid, 1 << 22})
	if one.processes != 1 || one.descriptors < 5 || one.sockets == nil || *one.sockets != 2 || one.limit == 0 {
		t.Errorf("cat has %+v open, want the standard streams and 2 sockets", one)
	}
	if both.processes != 3 || both.descriptors < one.descriptors+5 || *both.sockets < 4 {
		t.Errorf("together %+v are open", both)
	}
	for _, f := range append(sockets, in.(*os.File)) {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
