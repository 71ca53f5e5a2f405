package namespace_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/isolatortest"
	"github.com/berth-dev/berth/isolators/namespace"
)

var mappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}

// prepare lets all isolators of the package prepare, in order.
func prepare(c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	var m containerizer.Merger
	for _, i := range namespace.All() {
		at := *c
		var err error
		if at.Launch, err = m.Merged(); err != nil {
			return nil, err
		}
		info, err := i.Prepare(context.Background(), &at)
		if err != nil {
			return nil, err
		}
		m.Add(containerizer.Contribution{Isolator: i.Name(), Info: info})
	}
	return m.Merged()
}

// types are the kinds of new and of joined namespaces.
func types(info *containerizer.LaunchInfo) (made, joined []specs.LinuxNamespaceType) {
	for _, n := range info.Namespaces {
		if n.Path == "" {
			made = append(made, n.Type)
		} else {
			joined = append(joined, n.Type)
		}
	}
	return made, joined
}

func TestDefaults(t *testing.T) {
	root := isolatortest.NewContainer(t, &containerizer.Spec{})
	info, err := prepare(root.Container)
	if err != nil {
		t.Fatal(err)
	}
	made, joined := types(info)
	want := []specs.LinuxNamespaceType{specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.PIDNamespace, specs.CgroupNamespace}
	if diff := cmp.Diff(want, made); diff != "" || joined != nil {
		t.Errorf("a root makes (-want +got) %s and joins %v", diff, joined)
	}
}

func TestChildSharesWithParent(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("namespaces need root")
	}
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	parent := isolatortest.NewContainer(t, &containerizer.Spec{})
	child := isolatortest.NewChild(t, parent, &containerizer.Spec{Sysctls: map[string]string{"net.ipv4.ip_forward": "1"}})
	child.NamespacePath = func(_ containerizer.ContainerID, kind specs.LinuxNamespaceType) (string, error) {
		file := string(kind)
		if kind == specs.NetworkNamespace {
			file = "net"
		}
		return "/proc/" + strconv.Itoa(cmd.Process.Pid) + "/ns/" + file, nil
	}
	info, err := prepare(child.Container)
	if err != nil {
		t.Fatal(err)
	}
	made, joined := types(info)
	wantJoined := []specs.LinuxNamespaceType{specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace}
	if diff := cmp.Diff(wantJoined, joined); diff != "" {
		t.Errorf("a child joins (-want +got) %s", diff)
	}
	// The parent's user and time namespaces are the host's: nothing to join.
	if diff := cmp.Diff([]specs.LinuxNamespaceType{specs.PIDNamespace, specs.CgroupNamespace}, made); diff != "" {
		t.Errorf("a child makes (-want +got) %s", diff)
	}
}

func TestUserNamespace(t *testing.T) {
	c := isolatortest.NewContainer(t, &containerizer.Spec{Namespaces: containerizer.Namespaces{
		User: containerizer.Namespace{Mode: containerizer.NamespacePrivate}, UIDMappings: mappings, GIDMappings: mappings,
		Time: containerizer.Namespace{Mode: containerizer.NamespacePrivate}, TimeOffsets: map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1}},
	}})
	info, err := prepare(c.Container)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(mappings, info.UIDMappings); diff != "" {
		t.Errorf("uid mappings: %s", diff)
	}
	if info.TimeOffsets["boottime"].Secs != 1 {
		t.Errorf("time offsets %v", info.TimeOffsets)
	}
}

func TestRefused(t *testing.T) {
	user := func(uids, gids []specs.LinuxIDMapping) *containerizer.Spec {
		return &containerizer.Spec{Namespaces: containerizer.Namespaces{
			User: containerizer.Namespace{Mode: containerizer.NamespacePrivate}, UIDMappings: uids, GIDMappings: gids,
		}}
	}
	network := func(n containerizer.Namespace) *containerizer.Spec {
		return &containerizer.Spec{Namespaces: containerizer.Namespaces{Network: n}}
	}
	many := make([]specs.LinuxIDMapping, 341)
	for i := range many {
		many[i] = specs.LinuxIDMapping{ContainerID: uint32(i), HostID: uint32(100000 + i), Size: 1}
	}
	for name, tt := range map[string]struct {
		spec *containerizer.Spec
		want error
	}{
		"unknown mode":           {network(containerizer.Namespace{Mode: "odd"}), containerizer.ErrInvalid},
		"parent of a root":       {network(containerizer.Namespace{Mode: containerizer.NamespaceParent}), containerizer.ErrInvalid},
		"container without name": {network(containerizer.Namespace{Mode: containerizer.NamespaceContainer}), containerizer.ErrInvalid},
		"unknown container":      {network(containerizer.Namespace{Mode: containerizer.NamespaceContainer, Container: "x"}), containerizer.ErrNotFound},
		"missing path":           {network(containerizer.Namespace{Mode: containerizer.NamespacePath, Path: "/nowhere"}), containerizer.ErrNotFound},
		"no namespace file":      {network(containerizer.Namespace{Mode: containerizer.NamespacePath, Path: "/etc/passwd"}), containerizer.ErrInvalid},
		"no mappings":            {user(nil, nil), containerizer.ErrInvalid},
		"no gid mappings":        {user(mappings, nil), containerizer.ErrInvalid},
		"too many mappings":      {user(many, mappings), containerizer.ErrInvalid},
		"no id 0":                {user([]specs.LinuxIDMapping{{ContainerID: 1, HostID: 1, Size: 1}}, mappings), containerizer.ErrInvalid},
		"empty mapping":          {user([]specs.LinuxIDMapping{{}}, mappings), containerizer.ErrInvalid},
		"mapping beyond the end": {user([]specs.LinuxIDMapping{{Size: 1<<32 - 1, HostID: 5}}, mappings), containerizer.ErrInvalid},
		"overlap":                {user([]specs.LinuxIDMapping{{Size: 10, HostID: 5}, {ContainerID: 20, HostID: 14, Size: 2}}, mappings), containerizer.ErrInvalid},
		"mappings for the host":  {&containerizer.Spec{Namespaces: containerizer.Namespaces{UIDMappings: mappings}}, containerizer.ErrInvalid},
		"host sysctl":            {&containerizer.Spec{Sysctls: map[string]string{"kernel.panic": "1"}}, containerizer.ErrInvalid},
		"malformed sysctl":       {&containerizer.Spec{Sysctls: map[string]string{"net/../kernel/panic": "1"}}, containerizer.ErrInvalid},
		"sysctl of a shared namespace": {&containerizer.Spec{
			Namespaces: containerizer.Namespaces{Network: containerizer.Namespace{Mode: containerizer.NamespaceHost}},
			Sysctls:    map[string]string{"net.ipv4.ip_forward": "1"},
		}, containerizer.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			c := isolatortest.NewContainer(t, tt.spec)
			if info, err := prepare(c.Container); !errors.Is(err, tt.want) {
				t.Errorf("prepare: %+v, %v, want %v", info, err, tt.want)
			}
		})
	}
}

func TestConformance(t *testing.T) {
	for n := range namespace.All() {
		isolator := namespace.All()[n]
		t.Run(fmt.Sprint(isolator.Name()), func(t *testing.T) {
			isolatortest.Run(t, isolatortest.Config{
				New:  func(*testing.T) containerizer.Isolator { return namespace.All()[n] },
				Spec: func() *containerizer.Spec { return &containerizer.Spec{} },
			})
		})
	}
}
