package nri

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/nri/pkg/api"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// description has something of everything that can be adjusted.
func description() *containerizer.Spec {
	return &containerizer.Spec{
		Annotations: map[string]string{"keep": "1", "drop": "2"},
		Process: containerizer.Process{
			Entrypoint: []string{"/bin/server"}, Args: []string{"-v"}, Env: []string{"A=1", "B=2", "C=3"},
			Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1, Hard: 2}},
		},
		Mounts: []containerizer.Mount{
			{Type: containerizer.MountBind, Source: "/a", Destination: "/data/"}, {Type: containerizer.MountTmpfs, Destination: "/tmp"},
		},
		Hooks:      &specs.Hooks{Poststop: []specs.Hook{{Path: "/own"}}},
		Sysctls:    map[string]string{"net.x": "1"},
		Namespaces: containerizer.Namespaces{IPC: containerizer.Namespace{Mode: containerizer.NamespaceParent}},
		Resources:  containerizer.Resources{Linux: specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(1)), Swap: new(int64(9))}}},
		Devices:    []containerizer.Device{{HostPath: "/dev/full"}},
	}
}

func TestAdjusted(t *testing.T) {
	a := &api.ContainerAdjustment{Linux: &api.LinuxContainerAdjustment{}}
	a.AddAnnotation("new", "3")
	a.RemoveAnnotation("drop")
	a.AddEnv("B", "two")
	a.AddEnv("D", "4")
	a.RemoveEnv("A")
	a.SetArgs([]string{"/bin/other", "x"})
	a.AddMount(&api.Mount{Destination: "/data", Source: "/b", Type: "none", Options: []string{"rbind", "ro"}})
	a.AddMount(&api.Mount{Destination: "/q", Source: "mqueue", Type: "mqueue"})
	a.RemoveMount("/tmp")
	a.AddHooks(&api.Hooks{Poststop: []*api.Hook{{Path: "/theirs", Args: []string{"t"}}}, StartContainer: []*api.Hook{{Path: "/inside"}}})
	a.AddRlimit("RLIMIT_NOFILE", 20, 10)
	a.AddRlimit("RLIMIT_CORE", 0, 0)
	a.AddCDIDevice(&api.CDIDevice{Name: "v/c=d"})
	a.SetLinuxOomScoreAdj(new(7))
	a.SetLinuxSysctl("net.y", "2")
	a.AddOrReplaceNamespace(&api.LinuxNamespace{Type: "ipc", Path: "/proc/1/ns/ipc"})
	a.AddOrReplaceNamespace(&api.LinuxNamespace{Type: "uts"})
	a.SetLinuxMemoryLimit(5)
	a.SetLinuxCPUShares(6)
	a.SetLinuxPidLimits(8)
	a.AddLinuxUnified("memory.high", "1")
	a.AddDevice(&api.LinuxDevice{Path: "/dev/nothing", Type: "c", Major: 1, Minor: 3})
	a.RemoveDevice("/dev/full")
	before := description()
	c := &containerizer.Container{ID: "c", Spec: before, Dir: t.TempDir()}
	got, err := adjusted(c, a)
	if err != nil {
		t.Fatal(err)
	}
	want := &containerizer.Spec{
		Annotations: map[string]string{"keep": "1", "new": "3"},
		Process: containerizer.Process{
			Entrypoint: []string{}, Args: []string{"/bin/other", "x"}, Env: []string{"B=two", "C=3", "D=4"}, OOMScoreAdj: new(7),
			Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 10, Hard: 20}, {Type: "RLIMIT_CORE"}},
		},
		Mounts: []containerizer.Mount{
			{Type: containerizer.MountBind, Source: "/b", Destination: "/data", Options: []string{"rbind", "ro"}},
			{Type: containerizer.MountFilesystem, FSType: "mqueue", Source: "mqueue", Destination: "/q"},
		},
		Hooks: &specs.Hooks{
			Poststop: []specs.Hook{{Path: "/own"}, {Path: "/theirs", Args: []string{"t"}}}, StartContainer: []specs.Hook{{Path: "/inside"}},
		},
		Sysctls: map[string]string{"net.x": "1", "net.y": "2"},
		Namespaces: containerizer.Namespaces{
			IPC: containerizer.Namespace{Mode: containerizer.NamespacePath, Path: "/proc/1/ns/ipc"}, UTS: containerizer.Namespace{Mode: containerizer.NamespacePrivate},
		},
		Resources: containerizer.Resources{Linux: specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: new(int64(5)), Swap: new(int64(9))}, CPU: &specs.LinuxCPU{Shares: new(uint64(6))},
			Pids: &specs.LinuxPids{Limit: new(int64(8))}, Unified: map[string]string{"memory.high": "1"},
		}},
		Devices:    []containerizer.Device{{HostPath: "/dev/null", ContainerPath: "/dev/nothing"}},
		CDIDevices: []string{"v/c=d"},
	}
	if diff := cmp.Diff(fields(t, want), fields(t, got)); diff != "" {
		t.Errorf("description (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(fields(t, description()), fields(t, before)); diff != "" {
		t.Errorf("the description that came in was written to (-was +is):\n%s", diff)
	}
}

// fields is a description as it is recorded, in which nil and empty lists are one.
func fields(t *testing.T, s *containerizer.Spec) map[string]any {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestNothingAdjusted: a plug-in without wishes changes nothing.
func TestNothingAdjusted(t *testing.T) {
	for name, a := range map[string]*api.ContainerAdjustment{
		"nothing": nil, "empty": {}, "empty parts": {Hooks: &api.Hooks{}, Linux: &api.LinuxContainerAdjustment{
			Rdt: &api.LinuxRdt{}, Resources: &api.LinuxResources{Memory: &api.LinuxMemory{}, Cpu: &api.LinuxCPU{}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := adjusted(&containerizer.Container{Spec: description()}, a)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(fields(t, description()), fields(t, got)); diff != "" {
				t.Errorf("description (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSeccompPolicy: it becomes a profile in the container's folder.
func TestSeccompPolicy(t *testing.T) {
	a := &api.ContainerAdjustment{}
	a.SetLinuxSeccompPolicy(&api.LinuxSeccomp{DefaultAction: "SCMP_ACT_ALLOW", Syscalls: []*api.LinuxSyscall{{Names: []string{"reboot"}, Action: "SCMP_ACT_ERRNO"}}})
	c := &containerizer.Container{Spec: description(), Dir: t.TempDir()}
	got, err := adjusted(c, a)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(c.Dir, "nri", "seccomp.json"); got.Security.Seccomp != want {
		t.Fatalf("profile %q, want %q", got.Security.Seccomp, want)
	}
	text, err := os.ReadFile(got.Security.Seccomp)
	if err != nil {
		t.Fatal(err)
	}
	var profile specs.LinuxSeccomp
	if err := json.Unmarshal(text, &profile); err != nil || profile.DefaultAction != specs.ActAllow || len(profile.Syscalls) != 1 {
		t.Errorf("the profile is %s, %v", text, err)
	}
}

func TestRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		with func(*api.ContainerAdjustment)
		want error
	}{
		"cgroups path":    {func(a *api.ContainerAdjustment) { a.SetLinuxCgroupsPath("/x") }, containerizer.ErrUnsupported},
		"block I/O class": {func(a *api.ContainerAdjustment) { a.SetLinuxBlockIOClass("x") }, containerizer.ErrUnsupported},
		"RDT class":       {func(a *api.ContainerAdjustment) { a.SetLinuxRDTClass("x") }, containerizer.ErrUnsupported},
		"RDT":             {func(a *api.ContainerAdjustment) { a.SetLinuxRDTClosID("x") }, containerizer.ErrUnsupported},
		"memory policy": {
			func(a *api.ContainerAdjustment) { a.Linux.MemoryPolicy = &api.LinuxMemoryPolicy{} }, containerizer.ErrUnsupported,
		},
		"mount namespace": {func(a *api.ContainerAdjustment) { a.AddOrReplaceNamespace(&api.LinuxNamespace{Type: "mount"}) }, containerizer.ErrUnsupported},
		"relative source": {func(a *api.ContainerAdjustment) { a.AddMount(&api.Mount{Destination: "/x", Source: "x", Type: "bind"}) }, containerizer.ErrInvalid},
		"mount of no type": {
			func(a *api.ContainerAdjustment) { a.AddMount(&api.Mount{Destination: "/x", Source: "x"}) }, containerizer.ErrInvalid,
		},
		"fifo": {func(a *api.ContainerAdjustment) { a.AddDevice(&api.LinuxDevice{Path: "/dev/x", Type: "p"}) }, containerizer.ErrUnsupported},
		"no device": {func(a *api.ContainerAdjustment) {
			a.AddDevice(&api.LinuxDevice{Path: "/dev/x", Type: "c", Major: 4000})
		}, containerizer.ErrInvalid},
		"other owner": {func(a *api.ContainerAdjustment) {
			a.AddDevice(&api.LinuxDevice{Path: "/dev/x", Type: "c", Major: 1, Minor: 3, Uid: api.UInt32(uint32(77))})
		}, containerizer.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			a := &api.ContainerAdjustment{Linux: &api.LinuxContainerAdjustment{}}
			tt.with(a)
			if _, err := adjusted(&containerizer.Container{Spec: description(), Dir: t.TempDir()}, a); !errors.Is(err, tt.want) {
				t.Errorf("adjusted: %v, want %v", err, tt.want)
			}
		})
	}
}
