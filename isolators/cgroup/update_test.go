package cgroup_test

import (
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/cgroup"
	"github.com/berth-dev/berth/isolators/isolatortest"
)

// values are the control files that the tests change, in the words of version 1.
func values(t *testing.T, f *isolatortest.Fixture) map[string]string {
	t.Helper()
	files := map[string]string{
		"shares": "cpu.shares", "quota": "cpu.cfs_quota_us", "period": "cpu.cfs_period_us", "burst": "cpu.cfs_burst_us",
		"limit": "memory.limit_in_bytes", "swap": "memory.memsw.limit_in_bytes", "reservation": "memory.soft_limit_in_bytes",
		"pids": "pids.max", "cpus": "cpuset.cpus", "mems": "cpuset.mems",
	}
	if unified(t) {
		files = map[string]string{
			"shares": "cpu.weight", "quota": "cpu.max", "burst": "cpu.max.burst", "limit": "memory.max", "swap": "memory.swap.max",
			"reservation": "memory.low", "pids": "pids.max", "cpus": "cpuset.cpus", "mems": "cpuset.mems",
		}
	}
	got := map[string]string{}
	for name, file := range files {
		got[name] = control(t, f, file)
	}
	return got
}

func TestUpdate(t *testing.T) {
	iso := newIsolator(t, cgroup.Options{Parent: newParent(t)})
	const mb = 1 << 20
	for _, tt := range []struct {
		name            string
		change          specs.LinuxResources
		legacy, unified map[string]string // what differs from busySpec afterwards
	}{
		{"nothing", specs.LinuxResources{}, nil, nil},
		{
			"shares",
			specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: new(uint64(1024))}},
			map[string]string{"shares": "1024"},
			map[string]string{"shares": "100"},
		},
		{
			"quota keeps the period",
			specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: new(int64(70000))}},
			map[string]string{"quota": "70000"},
			map[string]string{"quota": "70000 100000"},
		},
		{
			"period keeps the quota",
			specs.LinuxResources{CPU: &specs.LinuxCPU{Period: new(uint64(200000))}},
			map[string]string{"period": "200000"},
			map[string]string{"quota": "50000 200000"},
		},
		{
			"no quota",
			specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: new(int64(-1))}},
			map[string]string{"quota": "-1"},
			map[string]string{"quota": "max 100000"},
		},
		{
			"burst with a new quota",
			specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: new(int64(80000)), Burst: new(uint64(60000))}},
			map[string]string{"quota": "80000", "burst": "60000"},
			map[string]string{"quota": "80000 100000", "burst": "60000"},
		},
		{
			"memory above the old swap",
			specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(128 * mb)), Swap: new(int64(128 * mb))}},
			map[string]string{"limit": "134217728", "swap": "134217728"},
			map[string]string{"limit": "134217728", "swap": "0"},
		},
		{
			"memory and swap below the old limit",
			specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(32 * mb)), Swap: new(int64(48 * mb))}},
			map[string]string{"limit": "33554432", "swap": "50331648"},
			map[string]string{"limit": "33554432", "swap": "16777216"},
		},
		{
			"swap alone",
			specs.LinuxResources{Memory: &specs.LinuxMemory{Swap: new(int64(80 * mb))}},
			map[string]string{"swap": "83886080"},
			map[string]string{"swap": "16777216"},
		},
		{
			"no memory limit",
			specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(-1))}},
			map[string]string{"limit": "9223372036854771712", "swap": "9223372036854771712"},
			map[string]string{"limit": "max", "swap": "max"},
		},
		{
			"pids and reservation",
			specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64(-1))}, Memory: &specs.LinuxMemory{Reservation: new(int64(8 * mb))}},
			map[string]string{"pids": "max", "reservation": "8388608"},
			map[string]string{"pids": "max", "reservation": "8388608"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := prepared(t, iso, busySpec())
			want, changes := values(t, f), tt.legacy
			if unified(t) {
				changes = tt.unified
			}
			maps.Copy(want, changes)
			if err := iso.Update(t.Context(), f.Container, &containerizer.Resources{Linux: tt.change}); err != nil {
				t.Fatalf("Update = %v", err)
			}
			if diff := cmp.Diff(want, values(t, f)); diff != "" {
				t.Errorf("after the update (-want +got):\n%s", diff)
			}
		})
	}
}

// A change that is refused, at whatever part, changes nothing.
func TestUpdateIsAllOrNothing(t *testing.T) {
	iso := newIsolator(t, cgroup.Options{Parent: newParent(t)})
	good := func() specs.LinuxResources {
		return specs.LinuxResources{
			CPU:    &specs.LinuxCPU{Shares: new(uint64(99)), Quota: new(int64(90000)), Burst: new(uint64(10000))},
			Memory: &specs.LinuxMemory{Limit: new(int64(80 << 20)), Swap: new(int64(90 << 20))},
			Pids:   &specs.LinuxPids{Limit: new(int64(77))},
		}
	}
	for name, tt := range map[string]struct {
		spoil func(r *specs.LinuxResources)
		want  error
	}{
		"bad value":                {func(r *specs.LinuxResources) { r.Pids.Limit = new(int64(-7)) }, containerizer.ErrInvalid},
		"refused by the kernel":    {func(r *specs.LinuxResources) { r.CPU.Cpus = "4000" }, containerizer.ErrInvalid},
		"device that is not there": {func(r *specs.LinuxResources) { r.BlockIO = missingDevice() }, containerizer.ErrInvalid},
		"bad device rule":          {func(r *specs.LinuxResources) { r.Devices = []specs.LinuxDeviceCgroup{{Type: "q"}} }, containerizer.ErrInvalid},
		"unsupported": {func(r *specs.LinuxResources) {
			r.Rdma = map[string]specs.LinuxRdma{"nothing": {HcaHandles: new(uint32(1))}}
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := prepared(t, iso, busySpec())
			before := values(t, f)
			r := good()
			tt.spoil(&r)
			err := iso.Update(t.Context(), f.Container, &containerizer.Resources{Linux: r})
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("Update = %v, want %v", err, tt.want)
			}
			if diff := cmp.Diff(before, values(t, f)); diff != "" {
				t.Errorf("a refused update changed (-before +after):\n%s", diff)
			}
		})
	}
}

func missingDevice() *specs.LinuxBlockIO {
	return &specs.LinuxBlockIO{ThrottleWriteBpsDevice: []specs.LinuxThrottleDevice{{
		LinuxBlockIODevice: specs.LinuxBlockIODevice{Major: 4000, Minor: 4000}, Rate: 1 << 20,
	}}}
}

func TestUpdateBelowUsage(t *testing.T) {
	iso := newIsolator(t, cgroup.Options{Parent: newParent(t)})
	f := prepared(t, iso, limited(specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(256 << 20))}}))
	// dd holds its block in memory for as long as nobody reads.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	scriptTo(t, f, "exec dd if=/dev/zero bs=32M count=2 2>/dev/null", w)
	_ = w.Close()
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	before := values(t, f)
	err = iso.Update(t.Context(), f.Container, &containerizer.Resources{Linux: specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: new(int64(4 << 20)), CheckBeforeUpdate: new(true)},
		Pids:   &specs.LinuxPids{Limit: new(int64(5))},
	}})
	if !errors.Is(err, containerizer.ErrFailedPrecondition) {
		t.Errorf("Update to less than is used = %v, want ErrFailedPrecondition", err)
	}
	if diff := cmp.Diff(before, values(t, f)); diff != "" {
		t.Errorf("a refused update changed (-before +after):\n%s", diff)
	}
}

func TestUpdateDevices(t *testing.T) {
	iso := newIsolator(t, cgroup.Options{Parent: newParent(t)})
	kmsg := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: new(int64(1)), Minor: new(int64(11)), Access: "r"}
	f := prepared(t, iso, limited(specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{kmsg}}))
	can := func() bool { return script(t, f, "exec 2>/dev/null 3</dev/kmsg").Wait() == nil }
	update := func(rules ...specs.LinuxDeviceCgroup) {
		t.Helper()
		if err := iso.Update(t.Context(), f.Container, &containerizer.Resources{Linux: specs.LinuxResources{Devices: rules}}); err != nil {
			t.Fatalf("Update = %v", err)
		}
		if err := script(t, f, "echo x >/dev/null").Wait(); err != nil {
			t.Errorf("the default devices do not work: %v", err)
		}
	}
	if !can() {
		t.Error("an allowed device cannot be opened")
	}
	update([]specs.LinuxDeviceCgroup{}...)
	update(specs.LinuxDeviceCgroup{Allow: true, Type: "b", Major: new(int64(7)), Access: "r"})
	if can() {
		t.Error("a device can be opened that an update took away")
	}
	update(kmsg)
	if !can() {
		t.Error("a device cannot be opened that an update gave back")
	}
	if err := iso.Update(t.Context(), f.Container, &containerizer.Resources{Linux: specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64(20))}}}); err != nil {
		t.Fatal(err)
	}
	if !can() {
		t.Error("an update of something else changed the devices")
	}
}

// With version 1, a container with the default devices gets them from a group
// that is shared; more cannot be had while it runs, and the message says so.
func TestUpdateOfDefaultDevices(t *testing.T) {
	iso := newIsolator(t, cgroup.Options{Parent: newParent(t)})
	f := prepared(t, iso, &containerizer.Spec{})
	err := iso.Update(t.Context(), f.Container, &containerizer.Resources{Linux: specs.LinuxResources{
		Devices: []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Major: new(int64(1)), Minor: new(int64(11)), Access: "r"}},
	}})
	if unified(t) {
		if err != nil {
			t.Errorf("Update = %v", err)
		}
		return
	}
	if !errors.Is(err, containerizer.ErrPermission) || !strings.Contains(err.Error(), "default devices") {
		t.Errorf("Update = %v, want ErrPermission that says why", err)
	}
	for _, dir := range f.Launch.Cgroup.Legacy {
		if strings.Contains(dir, "/devices/") {
			b, err := os.ReadFile(filepath.Join(dir, "devices.list"))
			if err != nil || !strings.Contains(string(b), "c 1:3 rwm") || strings.Contains(string(b), "1:11") {
				t.Errorf("devices.list = %q, %v", b, err)
			}
		}
	}
}

// Controllers without accounting get a group only for who asks at launch.
func TestControllersOnRequest(t *testing.T) {
	if unified(t) {
		return // version 2 has one group for all
	}
	if _, err := os.Stat(cgroup.DefaultRoot + "/net_cls"); err != nil {
		if _, err := os.Stat(cgroup.DefaultRoot + "/net_cls,net_prio"); err != nil {
			return // the kernel here has none that is mounted; the virtual machine has
		}
	}
	iso := newIsolator(t, cgroup.Options{Parent: newParent(t)})
	class := func(n uint32) specs.LinuxResources {
		return specs.LinuxResources{Network: &specs.LinuxNetwork{ClassID: new(n)}}
	}
	with, without := prepared(t, iso, limited(class(0x10001))), prepared(t, iso, &containerizer.Spec{})
	if got := control(t, with, "net_cls.classid"); got != "65537" {
		t.Errorf("net_cls.classid = %q", got)
	}
	if a, b := len(with.Launch.Cgroup.Legacy), len(without.Launch.Cgroup.Legacy); a != b+1 {
		t.Errorf("with a class id it has %d groups, without %d; want one more", a, b)
	}
	if err := iso.Update(t.Context(), with.Container, &containerizer.Resources{Linux: class(0x10002)}); err != nil {
		t.Errorf("Update of the class id = %v", err)
	}
	err := iso.Update(t.Context(), without.Container, &containerizer.Resources{Linux: class(0x10002)})
	if !errors.Is(err, containerizer.ErrFailedPrecondition) {
		t.Errorf("Update that needs another group = %v, want ErrFailedPrecondition", err)
	}
	ready(t, with, "echo ready; exec sleep 60")
	clean(t, iso, with)
	if left := leftovers(t, with.ID); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
