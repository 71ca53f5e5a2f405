package cri

import (
	"fmt"
	"path"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-dev/berth/containerizer"
)

// podSpec translates a pod sandbox.
func podSpec(r *runtimeapi.RunPodSandboxRequest, network, runtime string) (*containerizer.Spec, error) {
	config := r.GetConfig()
	if config.GetMetadata() == nil {
		return nil, fmt.Errorf("it has no metadata: %w", containerizer.ErrInvalid)
	}
	options := config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	origin, err := (&record{pod: r}).origin()
	if err != nil {
		return nil, err
	}
	spec := &containerizer.Spec{
		Class: containerizer.ClassPodSandbox, Labels: config.GetLabels(), Annotations: config.GetAnnotations(),
		Sysctls: config.GetLinux().GetSysctls(), CgroupParent: cgroupParent(config.GetLinux().GetCgroupParent()),
		Network: containerizer.Network{
			Hostname: config.GetHostname(), DNSServers: config.GetDnsConfig().GetServers(),
			DNSSearch: config.GetDnsConfig().GetSearches(), DNSOptions: config.GetDnsConfig().GetOptions(),
		},
		Log:     containerizer.LogConfig{Driver: containerizer.LogNone},
		Runtime: runtime, Origin: origin,
	}
	if err := podNamespaces(spec, options); err != nil {
		return nil, err
	}
	if runtime != "" && spec.Namespaces.User.Mode == containerizer.NamespacePrivate {
		return nil, fmt.Errorf("a user namespace of the pod: runtime handler %q has none: %w", runtime, containerizer.ErrUnsupported)
	}
	if hostNetwork(config) {
		return spec, refuseHostSysctls(spec.Sysctls)
	}
	spec.Network.Networks = []containerizer.NetworkAttachment{{Name: network}}
	spec.Network.Ports, err = ports(config.GetPortMappings())
	return spec, err
}

// refuseHostSysctls refuses what would change the host's network.
func refuseHostSysctls(sysctls map[string]string) error {
	for name := range sysctls {
		if strings.HasPrefix(name, "net.") {
			return fmt.Errorf("sysctl %q is of the network namespace, and the pod is in the host's: %w", name, containerizer.ErrInvalid)
		}
	}
	return nil
}

// cgroupParent is the parent in the engine's words: the name of a slice, or a path. The
// kubelet writes slices as paths, whose last element says all.
func cgroupParent(parent string) string {
	if base := path.Base(parent); strings.HasSuffix(base, ".slice") {
		return base
	}
	return parent
}

func hostNetwork(config *runtimeapi.PodSandboxConfig) bool {
	return config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetNetwork() == runtimeapi.NamespaceMode_NODE
}

// podNamespaces says which namespaces the pod has. One that is shared by its containers needs a
// process if it is that of pids: the mini-init.
func podNamespaces(spec *containerizer.Spec, o *runtimeapi.NamespaceOption) error {
	host := containerizer.Namespace{Mode: containerizer.NamespaceHost}
	n := &spec.Namespaces
	switch o.GetNetwork() {
	case runtimeapi.NamespaceMode_NODE:
		n.Network, n.UTS = host, host
	case runtimeapi.NamespaceMode_POD:
	default:
		return fmt.Errorf("network namespace mode %s: POD and NODE exist: %w", o.GetNetwork(), containerizer.ErrInvalid)
	}
	switch o.GetIpc() {
	case runtimeapi.NamespaceMode_NODE:
		n.IPC = host
	case runtimeapi.NamespaceMode_POD:
	default:
		return fmt.Errorf("ipc namespace mode %s: POD and NODE exist: %w", o.GetIpc(), containerizer.ErrInvalid)
	}
	switch o.GetPid() {
	case runtimeapi.NamespaceMode_NODE:
		n.PID = host
	case runtimeapi.NamespaceMode_POD:
		spec.Process.Init = true
	default:
	}
	// No process of the pod sandbox reads a file.
	spec.Security.MaskedPaths, spec.Security.ReadonlyPaths = &[]string{}, &[]string{}
	return userNamespace(n, o.GetUsernsOptions())
}

func userNamespace(n *containerizer.Namespaces, u *runtimeapi.UserNamespace) error {
	if u == nil || u.GetMode() == runtimeapi.NamespaceMode_NODE {
		if len(u.GetUids())+len(u.GetGids()) > 0 {
			return fmt.Errorf("mappings of ids are for a user namespace of the pod, not the node's: %w", containerizer.ErrInvalid)
		}
		return nil
	}
	if u.GetMode() != runtimeapi.NamespaceMode_POD {
		return fmt.Errorf("user namespace mode %s: POD and NODE exist: %w", u.GetMode(), containerizer.ErrInvalid)
	}
	if len(u.GetUids()) != 1 || len(u.GetGids()) != 1 {
		return fmt.Errorf("a user namespace has one mapping of users and one of groups, not %d and %d: %w", len(u.GetUids()), len(u.GetGids()), containerizer.ErrInvalid)
	}
	uid, gid := u.GetUids()[0], u.GetGids()[0]
	if uid.GetHostId() != gid.GetHostId() || uid.GetContainerId() != gid.GetContainerId() || uid.GetLength() != gid.GetLength() {
		return fmt.Errorf("the mappings of users and groups differ: %w", containerizer.ErrInvalid)
	}
	if uid.GetContainerId() != 0 || uid.GetLength() == 0 {
		return fmt.Errorf("root of the user namespace is not mapped: %w", containerizer.ErrInvalid)
	}
	n.User.Mode = containerizer.NamespacePrivate
	n.UIDMappings, n.GIDMappings = mappings(u.GetUids()), mappings(u.GetGids())
	return nil
}

// ports are those that are published.
func ports(list []*runtimeapi.PortMapping) ([]containerizer.PortMapping, error) {
	var out []containerizer.PortMapping
	seen := map[containerizer.PortMapping]bool{}
	for _, p := range list {
		if p.GetHostPort() == 0 {
			continue
		}
		protocol := containerizer.Protocol(strings.ToLower(p.GetProtocol().String()))
		if !validPort(p.GetHostPort()) || !validPort(p.GetContainerPort()) {
			return nil, fmt.Errorf("port %d on host port %d is no pair of ports: %w", p.GetContainerPort(), p.GetHostPort(), containerizer.ErrInvalid)
		}
		m := containerizer.PortMapping{
			Protocol: protocol, ContainerPort: uint16(p.GetContainerPort()), //nolint:gosec // checked
			HostPort: uint16(p.GetHostPort()), HostIP: p.GetHostIp(), //nolint:gosec // checked
		}
		onHost := m
		onHost.ContainerPort = 0
		if seen[onHost] {
			return nil, fmt.Errorf("host port %d of %s is published twice: %w", p.GetHostPort(), protocol, containerizer.ErrInvalid)
		}
		seen[onHost] = true
		out = append(out, m)
	}
	return out, nil
}

func validPort(p int32) bool { return p > 0 && p <= 65535 }
