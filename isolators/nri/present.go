package nri

import (
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/nri/pkg/api"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// podOf shows a root as a pod. pid, unless it is 0, is a process in its namespaces.
func podOf(id containerizer.ContainerID, spec *containerizer.Spec, pid int) *api.PodSandbox {
	pod := &api.PodSandbox{
		Id: id.String(), Uid: id.String(), Name: nameOf(id, spec), Labels: maps.Clone(spec.Labels), Annotations: maps.Clone(spec.Annotations),
		RuntimeHandler: spec.Runtime, Pid: uint32(pid),
		Linux: &api.LinuxPodSandbox{CgroupParent: spec.CgroupParent, Resources: api.FromOCILinuxResources(&spec.Resources.Linux, nil)},
	}
	if pid == 0 {
		return pod
	}
	for _, ns := range namespaces(spec) {
		if ns.Path == "" {
			ns.Path = fmt.Sprintf("/proc/%d/ns/%s", pid, file(specs.LinuxNamespaceType(ns.Type)))
		}
		pod.Linux.Namespaces = append(pod.Linux.Namespaces, ns)
	}
	return pod
}

// file is the name of a kind of namespace in /proc/PID/ns.
func file(t specs.LinuxNamespaceType) string {
	switch t {
	case specs.NetworkNamespace:
		return "net"
	case specs.MountNamespace:
		return "mnt"
	default:
		return string(t)
	}
}

func nameOf(id containerizer.ContainerID, spec *containerizer.Spec) string {
	if spec.Name != "" {
		return spec.Name
	}
	return id.String()
}

// containerOf shows a description, of which the process and resources are complete.
func containerOf(id containerizer.ContainerID, spec *containerizer.Spec) *api.Container {
	c := &api.Container{
		Id: id.String(), PodSandboxId: id.Root().String(), Name: nameOf(id, spec), State: api.ContainerState_CONTAINER_CREATED,
		Labels: maps.Clone(spec.Labels), Annotations: maps.Clone(spec.Annotations), // the library writes to them
		Args: slices.Concat(spec.Process.Entrypoint, spec.Process.Args), Env: slices.Clone(spec.Process.Env),
		Hooks: api.FromOCIHooks(spec.Hooks),
		Linux: &api.LinuxContainer{
			Namespaces: namespaces(spec), Resources: api.FromOCILinuxResources(&spec.Resources.Linux, nil),
			OomScoreAdj: api.Int(spec.Process.OOMScoreAdj), Sysctl: maps.Clone(spec.Sysctls),
		},
	}
	for _, m := range spec.Mounts {
		c.Mounts = append(c.Mounts, &api.Mount{Destination: m.Destination, Type: mountType(&m), Source: m.Source, Options: slices.Clone(m.Options)})
	}
	for _, r := range spec.Process.Rlimits {
		c.Rlimits = append(c.Rlimits, &api.POSIXRlimit{Type: r.Type, Hard: r.Hard, Soft: r.Soft})
	}
	for _, d := range spec.CDIDevices {
		c.CDIDevices = append(c.CDIDevices, &api.CDIDevice{Name: d})
	}
	return c
}

func mountType(m *containerizer.Mount) string {
	if m.Type == containerizer.MountFilesystem {
		return m.FSType
	}
	return string(m.Type)
}

// statusShown shows a container as it stands.
func statusShown(s *containerizer.Status, pod *api.PodSandbox) *shown {
	if s.Spec.Class == containerizer.ClassPodSandbox {
		return &shown{pod: pod}
	}
	c := containerOf(s.ID, s.Spec)
	c.Pid, c.CreatedAt = uint32(s.PID), s.CreatedAt.UnixNano()
	if !s.StartedAt.IsZero() {
		c.StartedAt = s.StartedAt.UnixNano()
	}
	switch s.State {
	case containerizer.StateRunning:
		c.State = api.ContainerState_CONTAINER_RUNNING
	case containerizer.StatePaused:
		c.State = api.ContainerState_CONTAINER_PAUSED
	case containerizer.StateExited, containerizer.StateDestroying, containerizer.StateDestroyed:
		c.State = api.ContainerState_CONTAINER_STOPPED
	case containerizer.StateCreated, containerizer.StatePreparing:
	}
	if t := s.Termination; t != nil {
		c.FinishedAt, c.ExitCode, c.StatusReason, c.StatusMessage = t.FinishedAt.UnixNano(), int32(t.ExitCode), string(t.Reason), t.Message
	}
	return &shown{pod: pod, container: c, stopped: c.State == api.ContainerState_CONTAINER_STOPPED}
}

// choice is a kind of namespace in a description.
type choice struct {
	kind specs.LinuxNamespaceType
	at   *containerizer.Namespace
}

func choices(n *containerizer.Namespaces) []choice {
	return []choice{
		{specs.NetworkNamespace, &n.Network},
		{specs.PIDNamespace, &n.PID},
		{specs.IPCNamespace, &n.IPC},
		{specs.UTSNamespace, &n.UTS},
		{specs.CgroupNamespace, &n.Cgroup},
		{specs.TimeNamespace, &n.Time},
		{specs.UserNamespace, &n.User},
	}
}

// namespaces shows those that are not the host's for sure.
func namespaces(spec *containerizer.Spec) []*api.LinuxNamespace {
	list := []*api.LinuxNamespace{{Type: string(specs.MountNamespace)}}
	copied := spec.Namespaces
	for _, c := range choices(&copied) {
		mode := c.at.Mode
		if mode == containerizer.NamespaceDefault && (c.kind == specs.UserNamespace || c.kind == specs.TimeNamespace) {
			mode = containerizer.NamespaceHost
		}
		if mode != containerizer.NamespaceHost {
			list = append(list, &api.LinuxNamespace{Type: string(c.kind), Path: c.at.Path})
		}
	}
	return list
}
