package cdi_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/cdi"
	"github.com/berth-dev/berth/isolators/isolatortest"
)

// everything is a specification with something of all that can be edited.
const everything = `
cdiVersion: "1.1.0"
kind: vendor.com/dev
containerEdits:
  env: ["ALL=1", "WHO=device"]
devices:
- name: x
  containerEdits:
    deviceNodes:
    - {path: /dev/x, hostPath: /dev/null, permissions: rw, fileMode: 432, uid: 7, gid: 8}
    mounts:
    - {hostPath: /opt/vendor/lib, containerPath: /usr/lib/vendor, options: [ro, nosuid, bind]}
    - {hostPath: /b, containerPath: /data}
    - {hostPath: tmpfs, containerPath: /scratch, type: tmpfs, options: [size=1m]}
    hooks:
    - {hookName: createContainer, path: /usr/bin/vendor-hook, args: [vendor-hook, update]}
    additionalGids: [44]
- name: numbers
  containerEdits:
    deviceNodes:
    - {path: /dev/numbers, type: c, major: 240, minor: 3}
- name: rdt
  containerEdits:
    intelRdt: {closID: gold}
- name: net
  containerEdits:
    netDevices: [{hostInterfaceName: eth7, name: eth0}]
- name: missing
  containerEdits:
    deviceNodes: [{path: /dev/nowhere-at-all}]
- name: relative
  containerEdits:
    mounts: [{hostPath: lib, containerPath: /lib}]
- name: relativenode
  containerEdits:
    deviceNodes: [{path: x, type: c, major: 1, minor: 3}]
`

func specDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestEdits(t *testing.T) {
	iso := cdi.New([]string{specDir(t, map[string]string{"vendor.yaml": everything})})
	before := &containerizer.Spec{
		CDIDevices: []string{"vendor.com/dev=x", "vendor.com/dev=numbers"},
		Process:    containerizer.Process{Env: []string{"WHO=image", "KEEP=1"}},
		Mounts:     []containerizer.Mount{{Type: containerizer.MountBind, Source: "/a", Destination: "/data/"}},
		Devices:    []containerizer.Device{{HostPath: "/dev/zero", ContainerPath: "/dev/x"}, {HostPath: "/dev/full"}},
		Hooks:      &specs.Hooks{Poststop: []specs.Hook{{Path: "/own"}}},
	}
	c := isolatortest.NewContainer(t, before)
	c.Rootfs = &containerizer.Rootfs{Path: "/rootfs"}
	got, err := iso.Adjust(t.Context(), c.Container)
	if err != nil {
		t.Fatal(err)
	}
	char := func(major, minor int64, access string) specs.LinuxDeviceCgroup {
		return specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &major, Minor: &minor, Access: access}
	}
	want := &containerizer.Spec{
		CDIDevices: before.CDIDevices,
		Process:    containerizer.Process{Env: []string{"KEEP=1", "ALL=1", "WHO=device"}},
		Mounts: []containerizer.Mount{
			{Type: containerizer.MountBind, Source: "/b", Destination: "/data", Options: []string{"rbind"}},
			{Type: containerizer.MountBind, Source: "/opt/vendor/lib", Destination: "/usr/lib/vendor", Options: []string{"ro", "nosuid", "bind"}},
			{Type: containerizer.MountTmpfs, Destination: "/scratch", Options: []string{"size=1m"}},
		},
		Devices: []containerizer.Device{{HostPath: "/dev/full"}},
		Hooks: &specs.Hooks{
			CreateContainer: []specs.Hook{{Path: "/usr/bin/vendor-hook", Args: []string{"vendor-hook", "update"}}},
			Poststop:        []specs.Hook{{Path: "/own"}},
		},
		Resources: containerizer.Resources{Linux: specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{char(1, 3, "rw"), char(240, 3, "rwm")}}},
	}
	byPath := cmp.Transformer("mounts", func(list []containerizer.Mount) map[string]containerizer.Mount {
		m := map[string]containerizer.Mount{}
		for _, one := range list {
			m[one.Destination] = one
		}
		return m
	})
	if diff := cmp.Diff(want, got, byPath); diff != "" {
		t.Errorf("description (-want +got):\n%s", diff)
	}
	if len(before.Process.Env) != 2 || before.Mounts[0].Source != "/a" || len(before.Devices) != 2 || before.Hooks.CreateContainer != nil {
		t.Errorf("the description that came in was written to: %+v", before)
	}
	c.Spec = got
	info, err := iso.Prepare(t.Context(), c.Container)
	if err != nil {
		t.Fatal(err)
	}
	wantInfo := &containerizer.LaunchInfo{
		AdditionalGIDs: []uint32{44},
		Devices: []specs.LinuxDevice{
			{Path: "/dev/x", Type: "c", Major: 1, Minor: 3, FileMode: new(os.FileMode(0o660)), UID: new(uint32(7)), GID: new(uint32(8))},
			{Path: "/dev/numbers", Type: "c", Major: 240, Minor: 3},
		},
	}
	if diff := cmp.Diff(wantInfo, info); diff != "" {
		t.Errorf("launch information (-want +got):\n%s", diff)
	}
}

// TestLaterFoldersComeFirst is the order of the specification.
func TestLaterFoldersComeFirst(t *testing.T) {
	one := func(env string) string {
		return `{"cdiVersion": "0.5.0", "kind": "vendor.com/dev", "devices": [{"name": "x", "containerEdits": {"env": ["` + env + `"]}}]}`
	}
	iso := cdi.New([]string{
		specDir(t, map[string]string{"a.json": one("FROM=etc")}), filepath.Join(t.TempDir(), "missing"),
		specDir(t, map[string]string{"a.json": one("FROM=run"), "damaged.json": "{"}),
	})
	c := isolatortest.NewContainer(t, &containerizer.Spec{CDIDevices: []string{"vendor.com/dev=x"}})
	got, err := iso.Adjust(t.Context(), c.Container)
	if err != nil || len(got.Process.Env) != 1 || got.Process.Env[0] != "FROM=run" {
		t.Errorf("Adjust = %+v, %v; want the variable of the later folder, in spite of a damaged file", got, err)
	}
}

func TestErrors(t *testing.T) {
	dir := specDir(t, map[string]string{"vendor.yaml": everything, "damaged.yaml": "cdiVersion: \"0.5.0\"\nkind: other.com/dev\nsurprise: 1\n"})
	iso := cdi.New([]string{dir})
	for name, c := range map[string]struct {
		device string
		class  error
		says   []string
	}{
		"unknown":        {"vendor.com/dev=y", containerizer.ErrNotFound, []string{`"vendor.com/dev=y"`, dir}},
		"damaged file":   {"other.com/dev=y", containerizer.ErrNotFound, []string{"damaged.yaml", "surprise"}},
		"rdt":            {"vendor.com/dev=rdt", containerizer.ErrUnsupported, []string{"RDT"}},
		"network device": {"vendor.com/dev=net", containerizer.ErrUnsupported, []string{"network devices"}},
		"missing node":   {"vendor.com/dev=missing", containerizer.ErrInvalid, []string{"/dev/nowhere-at-all"}},
		"relative path":  {"vendor.com/dev=relative", containerizer.ErrInvalid, []string{`"lib"`}},
		"relative node":  {"vendor.com/dev=relativenode", containerizer.ErrInvalid, []string{`"x"`}},
	} {
		t.Run(name, func(t *testing.T) {
			f := isolatortest.NewContainer(t, &containerizer.Spec{CDIDevices: []string{c.device}})
			_, err := iso.Adjust(t.Context(), f.Container)
			if !errors.Is(err, c.class) {
				t.Fatalf("Adjust = %v, want %v", err, c.class)
			}
			for _, say := range c.says {
				if !strings.Contains(err.Error(), say) {
					t.Errorf("%v does not say %s", err, say)
				}
			}
		})
	}
}

func TestConformance(t *testing.T) {
	dir := specDir(t, map[string]string{"vendor.yaml": everything})
	named := func(name string) func() *containerizer.Spec {
		return func() *containerizer.Spec { return &containerizer.Spec{CDIDevices: []string{name}} }
	}
	isolatortest.Run(t, isolatortest.Config{
		New:  func(*testing.T) containerizer.Isolator { return cdi.New([]string{dir}) },
		Spec: named("vendor.com/dev=x"),
		Fill: func(_ *testing.T, c *containerizer.Container) { c.Rootfs = &containerizer.Rootfs{Path: "/rootfs"} },
		Refused: map[string]func() *containerizer.Spec{
			"rdt": named("vendor.com/dev=rdt"), "missing node": named("vendor.com/dev=missing"),
		},
	})
}

// FuzzSpecification reads whatever a file holds: an error, or a description.
func FuzzSpecification(f *testing.F) {
	f.Add([]byte(everything))
	f.Add([]byte(`{"cdiVersion": "0.5.0", "kind": "vendor.com/dev", "devices": [{"name": "x", "containerEdits": {"env": ["A=1"]}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "f.yaml"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		iso := cdi.New([]string{dir})
		c := isolatortest.NewContainer(t, &containerizer.Spec{CDIDevices: []string{"vendor.com/dev=x"}})
		spec, err := iso.Adjust(t.Context(), c.Container)
		if (spec == nil) == (err == nil) {
			t.Errorf("Adjust = %v, %v", spec, err)
		}
	})
}
