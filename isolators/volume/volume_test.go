package volume_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/isolatortest"
	"github.com/berth-dev/berth/isolators/volume"
)

// images provisions every image as one directory.
type images struct{ got []containerizer.ImageSource }

func (p *images) ProvisionVolume(_ context.Context, _ containerizer.ContainerID, _ int, source containerizer.ImageSource) (*containerizer.Provisioned, error) {
	p.got = append(p.got, source)
	return &containerizer.Provisioned{Rootfs: &containerizer.Rootfs{Lower: []string{"/layer"}}}, nil
}

// prepare lets all isolators prepare c.
func prepare(t *testing.T, o volume.Options, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	t.Helper()
	var list []containerizer.Contribution
	for _, i := range volume.All(o) {
		info, err := i.Prepare(context.Background(), c)
		if err != nil {
			return nil, err
		}
		list = append(list, containerizer.Contribution{Isolator: i.Name(), Info: info})
	}
	return containerizer.MergeLaunchInfo(list)
}

func TestMounts(t *testing.T) {
	host, volumes := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(volumes, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	made := filepath.Join(host, "made", "here")
	p := &images{}
	c := isolatortest.NewContainer(t, &containerizer.Spec{Mounts: []containerizer.Mount{
		{Type: containerizer.MountBind, Source: host, Destination: "/a", Options: []string{"ro"}},
		{Type: containerizer.MountBind, Source: host, Destination: "/b", Options: []string{"bind", "rslave"}},
		{Type: containerizer.MountBind, Source: made, Destination: "/c", CreateSource: true},
		{Type: containerizer.MountVolume, Source: "data", Destination: "/d", SubPath: "x"},
		{Type: containerizer.MountTmpfs, Destination: "/e", Options: []string{"exec", "size=1m"}},
		{Type: containerizer.MountImage, Destination: "/f", SubPath: "etc", Image: &containerizer.ImageSource{Reference: "x"}},
		{Type: containerizer.MountFilesystem, FSType: "mqueue", Source: "mqueue", Destination: "/g"},
		{Type: containerizer.MountSandboxPath, Source: "out/put", Destination: "/h"},
	}})
	info, err := prepare(t, volume.Options{Volumes: volumes, Images: p}, c.Container)
	if err != nil {
		t.Fatal(err)
	}
	wantMounts := []specs.Mount{
		{Destination: "/a", Type: "bind", Source: host, Options: []string{"rbind", "ro"}},
		{Destination: "/b", Type: "bind", Source: host, Options: []string{"bind", "rslave"}},
		{Destination: "/c", Type: "bind", Source: made, Options: []string{"rbind"}},
		{Destination: "/e", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "noexec", "exec", "size=1m"}},
		{Destination: "/g", Type: "mqueue", Source: "mqueue"},
	}
	if diff := cmp.Diff(wantMounts, info.Mounts); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
	sandbox := filepath.Join(c.Dir, "sandbox")
	wantLayers := []containerizer.LayerMount{
		{Rootfs: containerizer.Rootfs{Path: sandbox}, SubPath: "out/put", Destination: "/h", Options: []string{"rbind"}},
		{Rootfs: containerizer.Rootfs{Path: filepath.Join(volumes, "data")}, SubPath: "x", Destination: "/d", Options: []string{"rbind"}},
		{Rootfs: containerizer.Rootfs{Lower: []string{"/layer"}}, SubPath: "etc", Destination: "/f", Options: []string{"rbind", "ro"}},
	}
	if diff := cmp.Diff(wantLayers, info.LayerMounts); diff != "" {
		t.Errorf("layer mounts (-want +got):\n%s", diff)
	}
	for _, dir := range []string{made, filepath.Join(sandbox, "out/put")} {
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			t.Errorf("%s was not made: %v", dir, err)
		}
	}
	if len(p.got) != 1 || !p.got[0].ReadOnly {
		t.Errorf("provisioned %+v, want one read-only image", p.got)
	}
}

func TestParentSandbox(t *testing.T) {
	parent := isolatortest.NewContainer(t, &containerizer.Spec{})
	child := isolatortest.NewChild(t, parent, &containerizer.Spec{Mounts: []containerizer.Mount{
		{Type: containerizer.MountSandboxPath, Source: "parent:shared", Destination: "/s"},
	}})
	info, err := prepare(t, volume.Options{}, child.Container)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := info.LayerMounts[0].Rootfs.Path, filepath.Join(parent.Dir, "sandbox"); got != want {
		t.Errorf("mounts %q, want %q", got, want)
	}
}

// A sandbox is written to by its container, which may leave links there.
func TestSandboxLinksDoNotLeadOut(t *testing.T) {
	outside := t.TempDir()
	c := isolatortest.NewContainer(t, &containerizer.Spec{Mounts: []containerizer.Mount{
		{Type: containerizer.MountSandboxPath, Source: "link/made", Destination: "/s"},
	}})
	sandbox := filepath.Join(c.Dir, "sandbox")
	if err := os.Mkdir(sandbox, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(sandbox, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := prepare(t, volume.Options{}, c.Container); err == nil {
		t.Error("a link out of the sandbox is followed")
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("%v was made outside of the sandbox", left)
	}
}

func TestRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		mount containerizer.Mount
		want  error
	}{
		"relative source":      {containerizer.Mount{Type: containerizer.MountBind, Source: "x"}, containerizer.ErrInvalid},
		"missing source":       {containerizer.Mount{Type: containerizer.MountBind, Source: "/nowhere/at/all"}, containerizer.ErrInvalid},
		"sandbox escape":       {containerizer.Mount{Type: containerizer.MountSandboxPath, Source: "../x"}, containerizer.ErrInvalid},
		"parent of a root":     {containerizer.Mount{Type: containerizer.MountSandboxPath, Source: "parent:x"}, containerizer.ErrInvalid},
		"missing volume":       {containerizer.Mount{Type: containerizer.MountVolume, Source: "x"}, containerizer.ErrNotFound},
		"volume name":          {containerizer.Mount{Type: containerizer.MountVolume, Source: "../x"}, containerizer.ErrInvalid},
		"no image":             {containerizer.Mount{Type: containerizer.MountImage}, containerizer.ErrInvalid},
		"writable image":       {containerizer.Mount{Type: containerizer.MountImage, Image: &containerizer.ImageSource{}, Options: []string{"rw"}}, containerizer.ErrInvalid},
		"writable below image": {containerizer.Mount{Type: containerizer.MountImage, Image: &containerizer.ImageSource{}, Options: []string{"rrw"}}, containerizer.ErrInvalid},
		"no filesystem":        {containerizer.Mount{Type: containerizer.MountFilesystem}, containerizer.ErrInvalid},
		"part of a filesystem": {containerizer.Mount{Type: containerizer.MountTmpfs, SubPath: "x"}, containerizer.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			tt.mount.Destination = "/x"
			c := isolatortest.NewContainer(t, &containerizer.Spec{Mounts: []containerizer.Mount{tt.mount}})
			if _, err := prepare(t, volume.Options{Volumes: t.TempDir(), Images: &images{}}, c.Container); !errors.Is(err, tt.want) {
				t.Errorf("prepare: %v, want %v", err, tt.want)
			}
		})
	}
}

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	for n, i := range volume.All(volume.Options{}) {
		t.Run(i.Name(), func(t *testing.T) {
			isolatortest.Run(t, isolatortest.Config{
				New: func(*testing.T) containerizer.Isolator {
					return volume.All(volume.Options{Volumes: dir, Images: &images{}})[n]
				},
				Spec: func() *containerizer.Spec {
					return &containerizer.Spec{Mounts: []containerizer.Mount{
						{Type: containerizer.MountBind, Source: dir, Destination: "/a"},
						{Type: containerizer.MountSandboxPath, Source: "a", Destination: "/b"},
						{Type: containerizer.MountTmpfs, Destination: "/c"},
					}}
				},
			})
		})
	}
}
