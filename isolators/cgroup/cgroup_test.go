package cgroup_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/cgroup"
	"github.com/berth-dev/berth/isolators/isolatortest"
)

// busySpec gives the isolator something to do in every controller that all
// machines have.
func busySpec() *containerizer.Spec {
	return &containerizer.Spec{Resources: containerizer.Resources{Linux: specs.LinuxResources{
		CPU:     &specs.LinuxCPU{Shares: new(uint64(512)), Quota: new(int64(50000)), Period: new(uint64(100000)), Cpus: "0", Mems: "0"},
		Memory:  &specs.LinuxMemory{Limit: new(int64(64 << 20)), Swap: new(int64(96 << 20)), Reservation: new(int64(32 << 20))},
		Pids:    &specs.LinuxPids{Limit: new(int64(50))},
		Devices: []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Major: new(int64(10)), Minor: new(int64(229)), Access: "rw"}},
	}}}
}

func TestConformance(t *testing.T) {
	parent := newParent(t)
	isolatortest.Run(t, isolatortest.Config{
		New: func(t *testing.T) containerizer.Isolator {
			t.Helper()
			return newIsolator(t, cgroup.Options{Parent: parent, Owner: "conformance", OrphanAge: time.Nanosecond})
		},
		Spec: busySpec,
		ChildSpec: func() *containerizer.Spec {
			s := busySpec()
			s.Resources.Linux.Memory = &specs.LinuxMemory{Limit: new(int64(16 << 20))}
			s.Resources.Linux.CPU.Quota = new(int64(20000))
			return s
		},
		Refused:   refused(t),
		Leftovers: leftovers,
		Acquires:  true,
	})
}

func TestConformanceWithoutLimits(t *testing.T) {
	parent := newParent(t)
	isolatortest.Run(t, isolatortest.Config{
		New: func(t *testing.T) containerizer.Isolator {
			t.Helper()
			return newIsolator(t, cgroup.Options{Parent: parent, Owner: "conformance", OrphanAge: time.Nanosecond})
		},
		Spec:      func() *containerizer.Spec { return &containerizer.Spec{} },
		Leftovers: leftovers,
		Acquires:  true,
	})
}

// leftovers are the groups of a container, wherever they are.
func leftovers(t *testing.T, id containerizer.ContainerID) []string {
	t.Helper()
	var found []string
	for _, root := range roots(t) {
		for _, pattern := range []string{"/*/", "/*/*/", "/*/*/*/"} {
			match, err := filepath.Glob(root + pattern + id.Base())
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range match {
				if strings.Contains(m, string(id.Root())) {
					found = append(found, m)
				}
			}
		}
	}
	return found
}

// refused are specs that no node can honour.
func refused(t *testing.T) map[string]func() *containerizer.Spec {
	t.Helper()
	cases := map[string]func() *containerizer.Spec{}
	add := func(name string, r specs.LinuxResources) {
		cases[name] = func() *containerizer.Spec {
			return &containerizer.Spec{Resources: containerizer.Resources{Linux: r}}
		}
	}
	add("one share", specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: new(uint64(1))}})
	add("tiny quota", specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: new(int64(10))}})
	add("long period", specs.LinuxResources{CPU: &specs.LinuxCPU{Period: new(uint64(2000000))}})
	add("burst above quota", specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: new(int64(20000)), Burst: new(uint64(30000))}})
	add("idle 2", specs.LinuxResources{CPU: &specs.LinuxCPU{Idle: new(int64(2))}})
	add("cpu list", specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "0,a"}})
	add("cpu that does not exist", specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "4000"}})
	add("memory node list", specs.LinuxResources{CPU: &specs.LinuxCPU{Mems: "1-0"}})
	add("128 bytes", specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(128))}})
	add("negative memory", specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(-5))}})
	add("swap below limit", specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(64 << 20)), Swap: new(int64(32 << 20))}})
	add("swap alone", specs.LinuxResources{Memory: &specs.LinuxMemory{Swap: new(int64(32 << 20))}})
	add("reservation above limit", specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(1 << 20)), Reservation: new(int64(2 << 20))}})
	add("swappiness", specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: new(uint64(101))}})
	add("pids", specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64(-2))}})
	add("many pids", specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64(1 << 40))}})
	add("io weight", specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: new(uint16(5))}})
	add("io device", specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{{LinuxBlockIODevice: specs.LinuxBlockIODevice{Major: -1}, Rate: 1}}}})
	add("io device that does not exist", specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{{LinuxBlockIODevice: specs.LinuxBlockIODevice{Major: 4000, Minor: 4000}, Rate: 1 << 20}}}})
	add("page size", specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "two", Limit: 1}}})
	add("rdma", specs.LinuxResources{Rdma: map[string]specs.LinuxRdma{"../x": {HcaHandles: new(uint32(1))}}})
	add("unified path", specs.LinuxResources{Unified: map[string]string{"../memory.max": "1"}})
	add("unified processes", specs.LinuxResources{Unified: map[string]string{"cgroup.procs": "1"}})
	add("unified unknown", specs.LinuxResources{Unified: map[string]string{"memory.bogus": "1"}})
	add("device type", specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Type: "x"}}})
	add("device access", specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Access: "rx"}}})
	add("device number", specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Major: new(int64(1 << 20))}}})
	for name, parent := range map[string]string{"relative parent": "a/b", "parent above": "/../x", "slice": "machine.slice", "newline": "/a\nb"} {
		cases[name] = func() *containerizer.Spec { return &containerizer.Spec{CgroupParent: parent} }
	}
	cases["shared without parent"] = func() *containerizer.Spec { return &containerizer.Spec{ShareCgroup: true} }
	return cases
}

func TestNewRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		o    cgroup.Options
		want error
	}{
		"unknown isolator":        {cgroup.Options{Isolation: []string{"cgroups/gpu"}}, containerizer.ErrInvalid},
		"unknown beside all":      {cgroup.Options{Isolation: []string{"cgroups/all", "cgroups/gpu"}}, containerizer.ErrInvalid},
		"unknown driver":          {cgroup.Options{Driver: "cgmanager"}, containerizer.ErrInvalid},
		"relative parent":         {cgroup.Options{Parent: "berth"}, containerizer.ErrInvalid},
		"not a cgroup filesystem": {cgroup.Options{Root: t.TempDir()}, containerizer.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			iso, err := cgroup.New(tt.o)
			if !errors.Is(err, tt.want) {
				t.Errorf("New(%+v) = %v, %v; want %v", tt.o, iso, err, tt.want)
			}
		})
	}
}

// Every name must be accepted wherever the kernel has the controller, and refused
// with ErrUnsupported elsewhere.
func TestNames(t *testing.T) {
	for _, name := range cgroup.Names() {
		_, err := cgroup.New(cgroup.Options{Isolation: []string{name}})
		if err != nil && !errors.Is(err, containerizer.ErrUnsupported) {
			t.Errorf("New with %q = %v", name, err)
		}
	}
	if !slices.IsSorted(cgroup.Names()) {
		t.Error("Names() is not sorted")
	}
}

func TestIsolationLeavesControllersOut(t *testing.T) {
	iso := newIsolator(t, cgroup.Options{Parent: newParent(t), Isolation: []string{"cgroups/cpu", "cgroups/pids"}})
	f := isolatortest.NewContainer(t, &containerizer.Spec{Resources: containerizer.Resources{Linux: specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: new(int64(1 << 30))},
	}}})
	_, err := iso.Prepare(t.Context(), f.Container)
	if !errors.Is(err, containerizer.ErrUnsupported) || !strings.Contains(err.Error(), "cgroups/mem") {
		t.Errorf("Prepare with a memory limit and no cgroups/mem = %v, want ErrUnsupported that names it", err)
	}
	if held := f.Ledger.All(); len(held) > 0 {
		t.Errorf("the ledger holds %q after a refused spec", held)
	}
	f.Spec.Resources = containerizer.Resources{}
	prepare(t, iso, f)
	for _, dir := range f.Launch.Cgroup.Legacy {
		if strings.Contains(dir, "/memory/") || strings.Contains(dir, "/blkio/") {
			t.Errorf("a group was made in a hierarchy that is not enabled: %q", dir)
		}
	}
}
