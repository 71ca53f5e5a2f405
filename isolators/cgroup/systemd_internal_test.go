package cgroup

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

func TestSlicePath(t *testing.T) {
	for name, want := range map[string]string{
		"-.slice":                       "/",
		"machine.slice":                 "/machine.slice",
		"kubepods-burstable-pod1.slice": "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice",
		`a\x2db.slice`:                  `/a\x2db.slice`,
	} {
		if got, err := slicePath(name); err != nil || got != want {
			t.Errorf("slicePath(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"", ".slice", "machine", "/machine.slice", "a/b.slice", "-a.slice", "a-.slice", "a--b.slice", "x.scope"} {
		if got, err := slicePath(name); !errors.Is(err, containerizer.ErrInvalid) {
			t.Errorf("slicePath(%q) = %q, %v; want ErrInvalid", name, got, err)
		}
	}
}

func TestUnitNames(t *testing.T) {
	i := &Isolator{parent: DefaultSlice}
	container := func(id containerizer.ContainerID, parent *containerizer.Container, s containerizer.Spec) *containerizer.Container {
		return &containerizer.Container{ID: id, Parent: parent, Spec: &s}
	}
	pod := container("pod", nil, containerizer.Spec{Class: containerizer.ClassPodSandbox})
	for name, tt := range map[string]struct {
		c                    *containerizer.Container
		slice, parent, scope string
	}{
		"root":          {container("abc123", nil, containerizer.Spec{}), "berth-abc123.slice", "berth.slice", "berth-abc123.scope"},
		"dashes":        {container("a-b@c", nil, containerizer.Spec{}), `berth-a\x2db\x40c.slice`, "berth.slice", `berth-a\x2db\x40c.scope`},
		"of a kubelet":  {container("pod.ctr", pod, containerizer.Spec{CgroupParent: "kubepods-pod1.slice"}), "kubepods-pod1-ctr.slice", "kubepods-pod1.slice", "berth-ctr.scope"},
		"of a sandbox":  {container("pod.ctr", pod, containerizer.Spec{}), "berth-pod-ctr.slice", "berth-pod.slice", "berth-pod-ctr.scope"},
		"in the root":   {container("x", nil, containerizer.Spec{CgroupParent: "-.slice"}), "x.slice", "-.slice", "berth-x.scope"},
		"under a slice": {container("x", nil, containerizer.Spec{CgroupParent: "a-b.slice"}), "a-b-x.slice", "a-b.slice", "berth-x.scope"},
	} {
		slice, parent, err := i.sliceOf(tt.c)
		if err != nil || slice != tt.slice || parent != tt.parent {
			t.Errorf("%s: slice %q in %q, %v; want %q in %q", name, slice, parent, err, tt.slice, tt.parent)
		}
		if scope, err := scopeOf(tt.c); err != nil || scope != tt.scope {
			t.Errorf("%s: scope %q, %v; want %q", name, scope, err, tt.scope)
		}
	}
	for name, c := range map[string]*containerizer.Container{
		"a path":   container("x", nil, containerizer.Spec{CgroupParent: "/kubepods"}),
		"too long": container(containerizer.ContainerID(strings.Repeat("-", 100)), nil, containerizer.Spec{}),
	} {
		if slice, _, err := i.sliceOf(c); !errors.Is(err, containerizer.ErrInvalid) {
			t.Errorf("%s: slice %q, %v; want ErrInvalid", name, slice, err)
		}
	}
}

func TestUnitProperties(t *testing.T) {
	r := everyLimit()
	want := []Property{
		{"MemoryMax", uint64(1 << 30)},
		{"MemoryLow", uint64(1 << 29)},
		{"MemorySwapMax", uint64(1 << 29)},
		{"TasksMax", uint64(100)},
		{"CPUWeight", uint64(174)},
		{"CPUQuotaPeriodUSec", uint64(100000)},
		{"CPUQuotaPerSecUSec", uint64(1500000)},
		{"AllowedCPUs", []byte{0x0f, 0x01}},
		{"AllowedMemoryNodes", []byte{0x01}},
	}
	if diff := cmp.Diff(want, unitProperties(&r)); diff != "" {
		t.Errorf("unitProperties (-want +got):\n%s", diff)
	}
	none := specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: new(int64(-1)), Swap: new(int64(-1))}, Pids: &specs.LinuxPids{Limit: new(int64(-1))},
		CPU: &specs.LinuxCPU{Quota: new(int64(-1))},
	}
	want = []Property{{"MemoryMax", infinity}, {"MemorySwapMax", infinity}, {"TasksMax", infinity}, {"CPUQuotaPerSecUSec", infinity}}
	if diff := cmp.Diff(want, unitProperties(&none)); diff != "" {
		t.Errorf("unitProperties of no limits (-want +got):\n%s", diff)
	}
	if got := unitProperties(&specs.LinuxResources{}); len(got) > 0 {
		t.Errorf("unitProperties of nothing = %v", got)
	}
}

// Everything that the driver needs is checked by New.
func TestSystemdDriverNeeds(t *testing.T) {
	for name, tt := range map[string]struct {
		o    Options
		n    node
		want error
	}{
		"version 1":   {Options{Driver: DriverSystemd}, everyController(false), containerizer.ErrUnsupported},
		"no systemd":  {Options{Driver: DriverSystemd}, everyController(true), containerizer.ErrInvalid},
		"not a slice": {Options{Driver: DriverSystemd, Units: noUnits{}, Parent: "/berth"}, everyController(true), containerizer.ErrInvalid},
	} {
		if _, err := newIsolator(tt.o, tt.n); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

type noUnits struct{ UnitManager }
