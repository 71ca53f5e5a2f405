package device_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/device"
	"github.com/berth-dev/berth/isolators/isolatortest"
)

func prepare(t *testing.T, s *containerizer.Spec) *containerizer.LaunchInfo {
	t.Helper()
	c := isolatortest.NewContainer(t, s)
	c.Rootfs = &containerizer.Rootfs{Path: "/rootfs"}
	info, err := device.New(device.Options{}).Prepare(context.Background(), c.Container)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func paths(info *containerizer.LaunchInfo) []string {
	var list []string
	for _, d := range info.Devices {
		list = append(list, d.Path)
	}
	return list
}

func TestDefaultDevices(t *testing.T) {
	info := prepare(t, &containerizer.Spec{})
	want := []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}
	if diff := cmp.Diff(want, paths(info)); diff != "" || len(info.DeviceRules) > 0 {
		t.Errorf("devices (-want +got):\n%s and rules %v", diff, info.DeviceRules)
	}
}

func TestNamedDevices(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("device nodes need root")
	}
	dir := t.TempDir()
	for name, minor := range map[string]uint32{"one": 1, "two": 2} {
		if err := unix.Mknod(filepath.Join(dir, name), unix.S_IFCHR|0o640, int(unix.Mkdev(240, minor))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	info := prepare(t, &containerizer.Spec{Devices: []containerizer.Device{
		{HostPath: dir, ContainerPath: "/dev/dir", Permissions: "r"},
		{HostPath: filepath.Join(dir, "two"), ContainerPath: "/dev/zero"},
	}})
	for _, want := range []string{"/dev/dir/one", "/dev/dir/two"} {
		if !slices.Contains(paths(info), want) {
			t.Errorf("devices %v lack %s", paths(info), want)
		}
	}
	zero := info.Devices[slices.Index(paths(info), "/dev/zero")]
	if zero.Major != 240 || zero.Minor != 2 || zero.FileMode.Perm() != 0o640 {
		t.Errorf("/dev/zero is %+v, want the named device in place of the default", zero)
	}
	rules := map[string]string{}
	for _, r := range info.DeviceRules {
		if !r.Allow || r.Type != "c" || *r.Major != 240 {
			t.Errorf("rule %+v", r)
		}
		rules[string(rune('0'+*r.Minor))] += r.Access
	}
	if diff := cmp.Diff(map[string]string{"1": "r", "2": "rrwm"}, rules); diff != "" {
		t.Errorf("access by minor (-want +got):\n%s", diff)
	}
}

func TestPrivilegedHasTheHostsDevices(t *testing.T) {
	info := prepare(t, &containerizer.Spec{Security: containerizer.Security{Privileged: true}})
	if len(info.Devices) <= 6 {
		t.Errorf("devices %v, want the host's too", paths(info))
	}
	for _, p := range paths(info) {
		if p == "/dev/console" || filepath.Dir(p) == "/dev/pts" {
			t.Errorf("%s is the container's own", p)
		}
	}
}

func TestOwnDevDirectory(t *testing.T) {
	info := prepare(t, &containerizer.Spec{
		Mounts:  []containerizer.Mount{{Type: containerizer.MountBind, Source: "/dev", Destination: "/dev"}},
		Devices: []containerizer.Device{{HostPath: "/dev/null"}},
	})
	if len(info.Devices) > 0 || len(info.DeviceRules) != 1 {
		t.Errorf("in a mounted /dev: devices %v, rules %v; want a rule only", paths(info), info.DeviceRules)
	}
}

func TestCDINamesAreNotIgnored(t *testing.T) {
	c := isolatortest.NewContainer(t, &containerizer.Spec{CDIDevices: []string{"vendor.com/gpu=0"}})
	c.Rootfs = &containerizer.Rootfs{Path: "/rootfs"}
	_, err := device.New(device.Options{}).Prepare(context.Background(), c.Container)
	if !errors.Is(err, containerizer.ErrUnsupported) || !strings.Contains(err.Error(), `"vendor.com/gpu=0"`) {
		t.Errorf("Prepare = %v, want that the name is unsupported", err)
	}
}

func TestConformance(t *testing.T) {
	one := func(d containerizer.Device) func() *containerizer.Spec {
		return func() *containerizer.Spec { return &containerizer.Spec{Devices: []containerizer.Device{d}} }
	}
	isolatortest.Run(t, isolatortest.Config{
		New:  func(*testing.T) containerizer.Isolator { return device.New(device.Options{}) },
		Spec: one(containerizer.Device{HostPath: "/dev/null", ContainerPath: "/dev/other"}),
		Fill: func(_ *testing.T, c *containerizer.Container) { c.Rootfs = &containerizer.Rootfs{Path: "/rootfs"} },
		Refused: map[string]func() *containerizer.Spec{
			"missing":       one(containerizer.Device{HostPath: "/dev/nowhere"}),
			"relative":      one(containerizer.Device{HostPath: "null"}),
			"relative path": one(containerizer.Device{HostPath: "/dev/null", ContainerPath: "null"}),
			"permissions":   one(containerizer.Device{HostPath: "/dev/null", Permissions: "rx"}),
			"no device":     one(containerizer.Device{HostPath: "/etc/passwd"}),
			"empty folder":  one(containerizer.Device{HostPath: t.TempDir()}),
		},
	})
}
