package cgroup

import (
	"embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// The files are part of the test binary: it runs by itself in virtual machines.
//
//go:embed testdata
var golden embed.FS

var update = flag.Bool("update", false, "write the golden files of this package")

// everyController is a node of either version with all there is.
func everyController(unified bool) node {
	all := []controller{freezer, cpu, cpuacct, cpuset, memory, pids, blkio, devices, hugetlb, netCls, netPrio, perfEvent, rdma, misc}
	if unified {
		h := hierarchy{dir: "/sys/fs/cgroup", controllers: []controller{freezer, devices, cpuacct, cpu, cpuset, memory, pids, blkio, hugetlb, rdma, misc}}
		return node{unified: true, hierarchies: []hierarchy{h}, toEnable: unifiedNames(h.controllers)}
	}
	var n node
	for _, c := range all {
		n.hierarchies = append(n.hierarchies, hierarchy{dir: "/sys/fs/cgroup/" + string(c), controllers: []controller{c}, onRequest: c.onRequest()})
	}
	return n
}

func everyLimit() specs.LinuxResources {
	disk := specs.LinuxBlockIODevice{Major: 8, Minor: 16}
	weight := specs.LinuxWeightDevice{LinuxBlockIODevice: disk, Weight: new(uint16(300))}
	return specs.LinuxResources{
		CPU: &specs.LinuxCPU{
			Shares: new(uint64(2048)), Quota: new(int64(150000)), Period: new(uint64(100000)), Burst: new(uint64(20000)),
			Cpus: "0-3,8", Mems: "0", Idle: new(int64(0)),
		},
		Memory: &specs.LinuxMemory{Limit: new(int64(1 << 30)), Swap: new(int64(3 << 29)), Reservation: new(int64(1 << 29))},
		Pids:   &specs.LinuxPids{Limit: new(int64(100))},
		BlockIO: &specs.LinuxBlockIO{
			Weight: new(uint16(500)), WeightDevice: []specs.LinuxWeightDevice{weight},
			ThrottleReadBpsDevice:   []specs.LinuxThrottleDevice{{LinuxBlockIODevice: disk, Rate: 1 << 20}},
			ThrottleWriteBpsDevice:  []specs.LinuxThrottleDevice{{LinuxBlockIODevice: disk, Rate: 2 << 20}},
			ThrottleReadIOPSDevice:  []specs.LinuxThrottleDevice{{LinuxBlockIODevice: disk, Rate: 100}},
			ThrottleWriteIOPSDevice: []specs.LinuxThrottleDevice{{LinuxBlockIODevice: disk}},
		},
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}, {Pagesize: "1GB", Limit: 0}},
		Rdma:           map[string]specs.LinuxRdma{"mlx5_0": {HcaHandles: new(uint32(2)), HcaObjects: new(uint32(2000))}},
	}
}

// text is a plan for people and golden files: what is written where, in order.
func text(p *plan) string {
	var b strings.Builder
	for n := range p.settings {
		for s := &p.settings[n]; s != nil; s = s.or {
			fmt.Fprintf(&b, "%s = %s", s.file, s.value)
			if s.or != nil {
				b.WriteString(", or without that file ")
			} else if s.lax {
				b.WriteString(" (if there)")
			}
		}
		b.WriteByte('\n')
	}
	if p.devices {
		for _, r := range p.deviceRules {
			fmt.Fprintf(&b, "rule: allow %v %v\n", r.allow, r)
		}
		for _, e := range p.deviceSet.exceptions {
			fmt.Fprintf(&b, "exception to allow %v: %v\n", p.deviceSet.allowAll, e)
		}
	}
	return b.String()
}

func TestPlanGolden(t *testing.T) {
	only := func(unified bool) specs.LinuxResources {
		r := everyLimit()
		if unified {
			r.Unified = map[string]string{"memory.high": "900000000", "io.latency": "8:16 target=5000", "cgroup.max.depth": "3", "misc.max": "sev 1"}
			return r
		}
		r.Memory.Swappiness, r.Memory.DisableOOMKiller, r.Memory.KernelTCP = new(uint64(10)), new(true), new(int64(1<<20))
		r.CPU.RealtimePeriod, r.CPU.RealtimeRuntime = new(uint64(1000000)), new(int64(0))
		r.BlockIO.LeafWeight, r.BlockIO.WeightDevice[0].LeafWeight = new(uint16(200)), new(uint16(100))
		r.Network = &specs.LinuxNetwork{ClassID: new(uint32(0x100001)), Priorities: []specs.LinuxInterfacePriority{{Name: "eth0", Priority: 5}}}
		return r
	}
	for name, tt := range map[string]struct {
		unified bool
		r       specs.LinuxResources
	}{
		"legacy-all": {false, only(false)}, "unified-all": {true, only(true)},
		"legacy-none": {false, specs.LinuxResources{}}, "unified-none": {true, specs.LinuxResources{}},
	} {
		t.Run(name, func(t *testing.T) {
			i := &Isolator{node: everyController(tt.unified)}
			c := &containerizer.Container{Spec: &containerizer.Spec{Resources: containerizer.Resources{Linux: tt.r}}}
			p, err := i.compile(c, &c.Spec.Resources, nil)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(text(p)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := golden.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), text(p)); diff != "" {
				t.Errorf("what is written (-want +got):\n%s", diff)
			}
		})
	}
}

// What exists in one version only is refused with the other, by the name of the
// field, and not left out in silence.
func TestPlanUnsupported(t *testing.T) {
	for field, tt := range map[string]struct {
		unified bool
		r       specs.LinuxResources
	}{
		"memory.swappiness":       {true, specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: new(uint64(1))}}},
		"memory.disableOOMKiller": {true, specs.LinuxResources{Memory: &specs.LinuxMemory{DisableOOMKiller: new(true)}}},
		"memory.kernelTCP":        {true, specs.LinuxResources{Memory: &specs.LinuxMemory{KernelTCP: new(int64(1 << 20))}}},
		"memory.useHierarchy":     {false, specs.LinuxResources{Memory: &specs.LinuxMemory{UseHierarchy: new(false)}}},
		"cpu.realtimePeriod":      {true, specs.LinuxResources{CPU: &specs.LinuxCPU{RealtimePeriod: new(uint64(1000))}}},
		"blockIO.leafWeight":      {true, specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{LeafWeight: new(uint16(100))}}},
		"network.classID":         {true, specs.LinuxResources{Network: &specs.LinuxNetwork{ClassID: new(uint32(1))}}},
		"network.priorities":      {true, specs.LinuxResources{Network: &specs.LinuxNetwork{Priorities: []specs.LinuxInterfacePriority{{Name: "eth0"}}}}},
		"memory.high":             {false, specs.LinuxResources{Unified: map[string]string{"memory.high": "1"}}},
	} {
		i := &Isolator{node: everyController(tt.unified)}
		c := &containerizer.Container{Spec: &containerizer.Spec{Resources: containerizer.Resources{Linux: tt.r}}}
		_, err := i.compile(c, &c.Spec.Resources, nil)
		if !errors.Is(err, containerizer.ErrUnsupported) || !strings.Contains(err.Error(), field) {
			t.Errorf("compile with %s = %v, want ErrUnsupported that names it", field, err)
		}
	}
}

// A kubelet sends limits of nothing for everything that the node might have.
func TestPlanWithoutController(t *testing.T) {
	n := everyController(true)
	n.hierarchies[0].controllers = []controller{freezer, devices, cpuacct}
	i := &Isolator{node: n}
	harmless := specs.LinuxResources{
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB"}},
		Pids:           &specs.LinuxPids{Limit: new(int64(-1))},
		CPU:            &specs.LinuxCPU{}, Memory: &specs.LinuxMemory{}, BlockIO: &specs.LinuxBlockIO{},
	}
	c := &containerizer.Container{Spec: &containerizer.Spec{Resources: containerizer.Resources{Linux: harmless}}}
	if p, err := i.compile(c, &c.Spec.Resources, nil); err != nil || len(p.settings) > 0 {
		t.Errorf("compile of no limits without controllers = %v, %v", p, err)
	}
	for field, r := range map[string]specs.LinuxResources{
		"hugepageLimits": {HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 1 << 21}}},
		"pids.limit":     {Pids: &specs.LinuxPids{Limit: new(int64(5))}},
		"cpu":            {CPU: &specs.LinuxCPU{Shares: new(uint64(100))}},
		"cpu.cpus":       {CPU: &specs.LinuxCPU{Cpus: "0"}},
		"memory":         {Memory: &specs.LinuxMemory{Limit: new(int64(1 << 20))}},
		"blockIO":        {BlockIO: &specs.LinuxBlockIO{Weight: new(uint16(100))}},
		"rdma":           {Rdma: map[string]specs.LinuxRdma{"x": {HcaHandles: new(uint32(1))}}},
		"memory.high":    {Unified: map[string]string{"memory.high": "1"}},
	} {
		c.Spec.Resources.Linux = r
		_, err := i.compile(c, &c.Spec.Resources, nil)
		if !errors.Is(err, containerizer.ErrUnsupported) || !strings.Contains(err.Error(), field) {
			t.Errorf("compile with %s and no controller = %v, want ErrUnsupported that names it", field, err)
		}
	}
}

func TestWeightOfShares(t *testing.T) {
	for shares, want := range map[uint64]uint64{0: 1, 2: 1, 3: 2, 1024: 100, 2048: 174, 262144: 10000, 1 << 40: 10000} {
		if got := weightOfShares(shares); got != want {
			t.Errorf("weightOfShares(%d) = %d, want %d", shares, got, want)
		}
	}
	for shares, last := uint64(2), uint64(0); shares <= 262144; shares++ {
		w := weightOfShares(shares)
		if w < last {
			t.Fatalf("weightOfShares(%d) = %d, less than the one before", shares, w)
		}
		last = w
	}
}
