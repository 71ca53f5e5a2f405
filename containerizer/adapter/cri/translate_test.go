package cri

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-dev/berth/containerizer"
)

func TestStopSignal(t *testing.T) {
	for in, want := range map[runtimeapi.Signal]string{
		runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT: "", runtimeapi.Signal_SIGNAL_SIGTERM: "SIGTERM",
		runtimeapi.Signal_SIGNAL_SIGRTMINPLUS3: "SIGRTMIN+3", runtimeapi.Signal_SIGNAL_SIGRTMAXMINUS2: "SIGRTMAX-2",
	} {
		got := stopSignal(in)
		if got != want {
			t.Errorf("stopSignal(%s) = %q, want %q", in, got, want)
		}
		if back := signalOf(got); back != in {
			t.Errorf("signalOf(%q) = %s, want %s", got, back, in)
		}
	}
}

func TestUserNamespaceRefused(t *testing.T) {
	whole := []*runtimeapi.IDMapping{{HostId: 100000, ContainerId: 0, Length: 65536}}
	above := []*runtimeapi.IDMapping{{HostId: 100000, ContainerId: 1, Length: 65536}}
	for name, u := range map[string]*runtimeapi.UserNamespace{
		"two mappings":      {Mode: runtimeapi.NamespaceMode_POD, Uids: append(whole, above...), Gids: whole},
		"none":              {Mode: runtimeapi.NamespaceMode_POD},
		"root not mapped":   {Mode: runtimeapi.NamespaceMode_POD, Uids: above, Gids: above},
		"different":         {Mode: runtimeapi.NamespaceMode_POD, Uids: whole, Gids: above},
		"container":         {Mode: runtimeapi.NamespaceMode_CONTAINER},
		"target":            {Mode: runtimeapi.NamespaceMode_TARGET},
		"node with mapping": {Mode: runtimeapi.NamespaceMode_NODE, Uids: whole},
	} {
		if err := userNamespace(&containerizer.Namespaces{}, u); !errors.Is(err, containerizer.ErrInvalid) {
			t.Errorf("%s: %v, want it invalid", name, err)
		}
	}
	var n containerizer.Namespaces
	if err := userNamespace(&n, &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_POD, Uids: whole, Gids: whole}); err != nil || n.User.Mode != containerizer.NamespacePrivate || len(n.UIDMappings) != 1 {
		t.Errorf("one mapping: %+v, %v", n, err)
	}
}

func TestResourcesRoundTrip(t *testing.T) {
	in := &runtimeapi.LinuxContainerResources{
		CpuPeriod: 100000, CpuQuota: 50000, CpuShares: 512, MemoryLimitInBytes: 1 << 26, MemorySwapLimitInBytes: 1 << 27, OomScoreAdj: 300,
		CpusetCpus: "0-1", CpusetMems: "0", HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB", Limit: 0}},
		Unified: map[string]string{"memory.oom.group": "1"},
	}
	score := 300
	r := resources(in)
	got := applied(&r, &score).GetLinux()
	if got.String() != in.String() {
		t.Errorf("got  %v\nwant %v", got, in)
	}
	if empty := resources(&runtimeapi.LinuxContainerResources{}); empty.CPU != nil || empty.Memory != nil {
		t.Errorf("nothing set gives %+v", empty)
	}
}

func TestMountOptions(t *testing.T) {
	for name, c := range map[string]struct {
		mount *runtimeapi.Mount
		want  []string
	}{
		"plain":                    {&runtimeapi.Mount{}, []string{"rbind", "rprivate"}},
		"read-only":                {&runtimeapi.Mount{Readonly: true, Propagation: runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER}, []string{"rbind", "rslave", "ro"}},
		"recursive":                {&runtimeapi.Mount{Readonly: true, RecursiveReadOnly: true, MountOptions: []string{"noexec"}}, []string{"rbind", "rprivate", "rro", "noexec"}},
		"recursive, not read-only": {&runtimeapi.Mount{RecursiveReadOnly: true}, nil},
		"recursive, propagated":    {&runtimeapi.Mount{Readonly: true, RecursiveReadOnly: true, Propagation: runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL}, nil},
		"unknown option":           {&runtimeapi.Mount{MountOptions: []string{"suid"}}, nil},
	} {
		got, err := mountOptions(c.mount)
		if diff := cmp.Diff(c.want, got); diff != "" || (err == nil) != (c.want != nil) {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
}

// TestRecordOfImageMounts holds that a kubelet finds the image that a mount shows.
func TestRecordOfImageMounts(t *testing.T) {
	config := &runtimeapi.ContainerConfig{Image: &runtimeapi.ImageSpec{Image: "i"}, Mounts: []*runtimeapi.Mount{
		{ContainerPath: "/a", HostPath: "/h"}, {ContainerPath: "/b", Image: &runtimeapi.ImageSpec{Image: "v:1"}},
	}}
	mounts := []containerizer.Mount{{Source: "/h"}, {Image: &containerizer.ImageSource{Reference: "sha256:2"}}}
	r := containerRecord("p", config, "sha256:1", mounts).container.GetConfig()
	if got := r.GetMounts()[1].GetImage().GetImageRef(); got != "sha256:2" || r.GetImage().GetImageRef() != "sha256:1" {
		t.Errorf("the mount shows image %q, the container is of %q", got, r.GetImage().GetImageRef())
	}
	if config.GetMounts()[1].GetImage().GetImageRef() != "" {
		t.Error("the request was written to")
	}
}

func TestPorts(t *testing.T) {
	got, err := ports([]*runtimeapi.PortMapping{
		{ContainerPort: 80}, {ContainerPort: 80, HostPort: 8080}, {ContainerPort: 53, HostPort: 8080, Protocol: runtimeapi.Protocol_UDP},
	})
	want := []containerizer.PortMapping{
		{Protocol: containerizer.ProtocolTCP, ContainerPort: 80, HostPort: 8080}, {Protocol: containerizer.ProtocolUDP, ContainerPort: 53, HostPort: 8080},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	for name, list := range map[string][]*runtimeapi.PortMapping{
		"twice":     {{ContainerPort: 80, HostPort: 1}, {ContainerPort: 81, HostPort: 1}},
		"too large": {{ContainerPort: 80, HostPort: 70000}},
		"negative":  {{ContainerPort: -1, HostPort: 80}},
	} {
		if got, err := ports(list); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestSeccompAndAppArmor(t *testing.T) {
	profile := func(kind runtimeapi.SecurityProfile_ProfileType, ref string) *runtimeapi.SecurityProfile {
		return &runtimeapi.SecurityProfile{ProfileType: kind, LocalhostRef: ref}
	}
	for name, c := range map[string]struct {
		context           *runtimeapi.LinuxContainerSecurityContext
		seccomp, apparmor string
		refused           bool
	}{
		"nothing":    {&runtimeapi.LinuxContainerSecurityContext{}, unconfined, "", false},
		"defaults":   {&runtimeapi.LinuxContainerSecurityContext{Seccomp: profile(0, ""), Apparmor: profile(0, "")}, "default", "", false},
		"localhost":  {&runtimeapi.LinuxContainerSecurityContext{Seccomp: profile(2, "/p.json"), Apparmor: profile(2, "localhost/mine")}, "/p.json", "mine", false},
		"privileged": {&runtimeapi.LinuxContainerSecurityContext{Privileged: true, Seccomp: profile(0, ""), Apparmor: profile(0, "")}, unconfined, unconfined, false},
		"old string": {&runtimeapi.LinuxContainerSecurityContext{ApparmorProfile: "localhost/old"}, unconfined, "old", false}, //nolint:staticcheck // old kubelets send it
		"relative":   {&runtimeapi.LinuxContainerSecurityContext{Seccomp: profile(2, "p.json")}, "", "", true},
		"no name":    {&runtimeapi.LinuxContainerSecurityContext{Apparmor: profile(2, "")}, "", "", true},
	} {
		filter, err := seccomp(c.context)
		armor, err2 := apparmor(c.context)
		if err = errors.Join(err, err2); (err != nil) != c.refused || !c.refused && (filter != c.seccomp || armor != c.apparmor) {
			t.Errorf("%s: %q, %q, %v", name, filter, armor, err)
		}
	}
}

// FuzzDecode holds that a record from disk, whoever wrote it, is decoded or refused.
func FuzzDecode(f *testing.F) {
	o, err := containerRecord("p", &runtimeapi.ContainerConfig{Image: &runtimeapi.ImageSpec{Image: "i"}}, "sha256:1", nil).origin()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(o.Data)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, id := range []containerizer.ContainerID{"pod", "pod.container"} {
			r, err := decode(id, &containerizer.Origin{Adapter: adapterName, Data: data})
			if err == nil {
				_ = r.key()
			} else if !errors.Is(err, containerizer.ErrDataCorrupt) {
				t.Errorf("%v is not of the class of damaged data", err)
			}
		}
	})
}
