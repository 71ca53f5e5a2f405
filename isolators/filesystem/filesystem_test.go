package filesystem_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/filesystem"
	"github.com/berth-dev/berth/isolators/isolatortest"
)

// prepare prepares a container with a root filesystem and these new namespaces.
func prepare(t *testing.T, i *filesystem.Isolator, s *containerizer.Spec, namespaces ...specs.LinuxNamespaceType) *containerizer.LaunchInfo {
	t.Helper()
	c := isolatortest.NewContainer(t, s)
	c.Rootfs = &containerizer.Rootfs{Path: "/rootfs"}
	for _, n := range namespaces {
		c.Launch.Namespaces = append(c.Launch.Namespaces, specs.LinuxNamespace{Type: n})
	}
	if slices.Contains(namespaces, specs.UserNamespace) {
		c.Launch.GIDMappings = []specs.LinuxIDMapping{{Size: 1, HostID: 100000}}
	}
	info, err := i.Prepare(context.Background(), c.Container)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func destinations(info *containerizer.LaunchInfo) []string {
	var list []string
	for _, m := range info.Mounts {
		list = append(list, m.Type+" "+m.Destination)
	}
	return list
}

func mountOn(info *containerizer.LaunchInfo, destination string) *specs.Mount {
	for i := range info.Mounts {
		if info.Mounts[i].Destination == destination {
			return &info.Mounts[i]
		}
	}
	return nil
}

// cgroupRoot is a directory like that of a host with version 1 control groups.
func cgroupRoot(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"cpu", "memory", "systemd", "unified"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDefaultMounts(t *testing.T) {
	i := filesystem.New(filesystem.Options{CgroupRoot: cgroupRoot(t)})
	info := prepare(t, i, &containerizer.Spec{}, specs.IPCNamespace, specs.NetworkNamespace, specs.CgroupNamespace)
	want := []string{
		"proc /proc", "tmpfs /dev", "devpts /dev/pts", "tmpfs /dev/shm", "mqueue /dev/mqueue", "sysfs /sys",
		"tmpfs /sys/fs/cgroup", "cgroup /sys/fs/cgroup/cpu", "cgroup /sys/fs/cgroup/memory", "cgroup /sys/fs/cgroup/systemd",
	}
	if diff := cmp.Diff(want, destinations(info)); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
	for _, d := range []string{"/sys", "/sys/fs/cgroup"} {
		if m := mountOn(info, d); !slices.Contains(m.Options, "ro") {
			t.Errorf("%s has options %v, want ro", d, m.Options)
		}
	}
	if m := mountOn(info, "/sys/fs/cgroup/systemd"); !slices.Contains(m.Options, "name=systemd") || !slices.Contains(m.Options, "ro") {
		t.Errorf("the systemd hierarchy has options %v", m.Options)
	}
	if n := info.Namespaces; len(n) != 1 || n[0].Type != specs.MountNamespace || n[0].Path != "" {
		t.Errorf("namespaces %v, want a new mount namespace", n)
	}
}

func TestMountsFollowNamespaces(t *testing.T) {
	i := filesystem.New(filesystem.Options{CgroupRoot: cgroupRoot(t)})
	shared := prepare(t, i, &containerizer.Spec{})
	if m := mountOn(shared, "/dev/shm"); m == nil || m.Type != "bind" || m.Source != "/dev/shm" {
		t.Errorf("with the host's ipc namespace /dev/shm is %+v", m)
	}
	if m := mountOn(shared, "/sys/fs/cgroup"); m != nil {
		t.Errorf("without a cgroup namespace the host's control groups are shown: %+v", m)
	}
	if m := mountOn(prepare(t, i, &containerizer.Spec{}, specs.UserNamespace), "/dev/mqueue"); m.Type != "bind" {
		t.Errorf("a user namespace in the host's ipc namespace has /dev/mqueue as %+v", m)
	}
	user := prepare(t, i, &containerizer.Spec{}, specs.UserNamespace, specs.IPCNamespace)
	if m := mountOn(user, "/sys"); m.Type != "bind" || !slices.Contains(m.Options, "rro") {
		t.Errorf("a user namespace in the host's network has /sys as %+v", m)
	}
	if m := mountOn(user, "/dev/pts"); slices.Contains(m.Options, "gid=5") {
		t.Errorf("devpts names a group that is not mapped: %v", m.Options)
	}
	if !user.Rootfs.IDMapped || shared.Rootfs.IDMapped {
		t.Error("ids of the root filesystem are mapped exactly with a user namespace")
	}
}

func TestSpecReplacesDefaults(t *testing.T) {
	i := filesystem.New(filesystem.Options{CgroupRoot: cgroupRoot(t)})
	s := &containerizer.Spec{Mounts: []containerizer.Mount{
		{Type: containerizer.MountTmpfs, Destination: "/dev/shm/"}, {Type: containerizer.MountBind, Destination: "/sys/fs/cgroup", Source: "/x"},
	}}
	info := prepare(t, i, s, specs.IPCNamespace, specs.NetworkNamespace, specs.CgroupNamespace)
	for _, d := range []string{"/dev/shm", "/sys/fs/cgroup", "/sys/fs/cgroup/cpu"} {
		if m := mountOn(info, d); m != nil {
			t.Errorf("the default mount %+v is there beside the description's", m)
		}
	}
}

func TestPrivilegedSysIsWritable(t *testing.T) {
	i := filesystem.New(filesystem.Options{CgroupRoot: cgroupRoot(t)})
	info := prepare(t, i, &containerizer.Spec{Security: containerizer.Security{Privileged: true}}, specs.NetworkNamespace, specs.CgroupNamespace)
	for _, d := range []string{"/sys", "/sys/fs/cgroup", "/sys/fs/cgroup/cpu"} {
		if m := mountOn(info, d); slices.Contains(m.Options, "ro") {
			t.Errorf("%s has options %v", d, m.Options)
		}
	}
}

func TestChildWithoutRootfsJoinsParents(t *testing.T) {
	i := filesystem.New(filesystem.Options{})
	parent := isolatortest.NewContainer(t, &containerizer.Spec{})
	child := isolatortest.NewChild(t, parent, &containerizer.Spec{})
	child.NamespacePath = func(_ containerizer.ContainerID, _ specs.LinuxNamespaceType) (string, error) {
		return "/proc/7/ns/mnt", nil
	}
	info, err := i.Prepare(context.Background(), child.Container)
	if err != nil || info.Rootfs != nil || len(info.Mounts) > 0 || info.Namespaces[0].Path != "/proc/7/ns/mnt" {
		t.Errorf("prepare: %+v, %v", info, err)
	}
}

func TestSharedMemoryOfThePod(t *testing.T) {
	i := filesystem.New(filesystem.Options{})
	pod := isolatortest.NewContainer(t, &containerizer.Spec{Class: containerizer.ClassPodSandbox})
	if _, err := i.Prepare(context.Background(), pod.Container); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(pod.Dir, "shm")); err != nil || st.Mode()&os.ModeSticky == 0 || st.Mode().Perm() != 0o777 {
		t.Errorf("the pod's shared memory: %v, %v", st, err)
	}
	child := isolatortest.NewChild(t, pod, &containerizer.Spec{})
	child.Rootfs = &containerizer.Rootfs{Path: "/rootfs"}
	info, err := i.Prepare(context.Background(), child.Container)
	if err != nil {
		t.Fatal(err)
	}
	if m := mountOn(info, "/dev/shm"); m == nil || m.Source != filepath.Join(pod.Dir, "shm") {
		t.Errorf("a container of the pod has /dev/shm as %+v", m)
	}
}

func TestSharedMemoryOfAProcess(t *testing.T) {
	i := filesystem.New(filesystem.Options{})
	parent := isolatortest.NewContainer(t, &containerizer.Spec{})
	child := isolatortest.NewChild(t, parent, &containerizer.Spec{})
	child.Rootfs = &containerizer.Rootfs{Path: "/rootfs"}
	for path, want := range map[string]string{"/proc/7/ns/mnt": "/proc/7/root/dev/shm", "/proc/7/fd/9": ""} {
		child.NamespacePath = func(containerizer.ContainerID, specs.LinuxNamespaceType) (string, error) { return path, nil }
		info, err := i.Prepare(context.Background(), child.Container)
		if (err != nil) != (want == "") || err == nil && mountOn(info, "/dev/shm").Source != want {
			t.Errorf("with the mount namespace %s: %+v, %v, want %q", path, info, err, want)
		}
	}
}

func TestConformance(t *testing.T) {
	isolatortest.Run(t, isolatortest.Config{
		New: func(*testing.T) containerizer.Isolator {
			return filesystem.New(filesystem.Options{MountTypes: []containerizer.MountType{containerizer.MountBind}})
		},
		Spec: func() *containerizer.Spec { return &containerizer.Spec{ReadonlyRootfs: true} },
		Fill: func(_ *testing.T, c *containerizer.Container) { c.Rootfs = &containerizer.Rootfs{Path: "/rootfs"} },
		Refused: map[string]func() *containerizer.Spec{
			"propagation": func() *containerizer.Spec { return &containerizer.Spec{RootfsPropagation: "odd"} },
			"relative path": func() *containerizer.Spec {
				return &containerizer.Spec{Mounts: []containerizer.Mount{{Type: containerizer.MountBind, Destination: "x"}}}
			},
			"twice": func() *containerizer.Spec {
				m := containerizer.Mount{Type: containerizer.MountBind, Destination: "/x"}
				return &containerizer.Spec{Mounts: []containerizer.Mount{m, m}}
			},
			"type without isolator": func() *containerizer.Spec {
				return &containerizer.Spec{Mounts: []containerizer.Mount{{Type: containerizer.MountImage, Destination: "/x"}}}
			},
		},
	})
}
