package engine

import (
	"net/netip"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

func validateNamespaces(id containerizer.ContainerID, s *containerizer.Spec) error {
	n := &s.Namespaces
	for _, kind := range []struct {
		name string
		ns   containerizer.Namespace
	}{
		{"network", n.Network},
		{"pid", n.PID},
		{"ipc", n.IPC},
		{"uts", n.UTS},
		{"cgroup", n.Cgroup},
		{"time", n.Time},
		{"user", n.User},
	} {
		if err := validateNamespace(id, kind.name, kind.ns); err != nil {
			return err
		}
	}
	private := n.User.Mode == containerizer.NamespacePrivate
	if (len(n.UIDMappings) > 0 || len(n.GIDMappings) > 0) && !private {
		return invalid("user id mappings are given without a private user namespace")
	}
	if (len(n.UIDMappings) == 0) != (len(n.GIDMappings) == 0) {
		return invalid("user ids are mapped and group ids are not, or the other way round")
	}
	if err := validateMappings("uid", n.UIDMappings); err != nil {
		return err
	}
	if err := validateMappings("gid", n.GIDMappings); err != nil {
		return err
	}
	if len(n.TimeOffsets) > 0 && n.Time.Mode != containerizer.NamespacePrivate {
		return invalid("time offsets are given without a private time namespace")
	}
	for clock, o := range n.TimeOffsets {
		if clock != "monotonic" && clock != "boottime" {
			return invalid("clock %q cannot be offset (monotonic and boottime can)", clock)
		}
		if o.Nanosecs >= 1_000_000_000 {
			return invalid("offset of the %s clock has %d nanoseconds, a second or more", clock, o.Nanosecs)
		}
	}
	return nil
}

func validateNamespace(id containerizer.ContainerID, kind string, ns containerizer.Namespace) error {
	switch ns.Mode {
	case containerizer.NamespaceDefault, containerizer.NamespacePrivate, containerizer.NamespaceHost:
	case containerizer.NamespaceParent:
		if id.IsRoot() {
			return invalid("%s namespace of the parent: a root container has none", kind)
		}
	case containerizer.NamespaceContainer:
		if _, err := containerizer.ParseContainerID(string(ns.Container)); err != nil {
			return invalid("%s namespace of container %q: not an id", kind, ns.Container)
		}
		if ns.Container == id {
			return invalid("%s namespace of the container itself; say private", kind)
		}
	case containerizer.NamespacePath:
		return hostPath(kind+" namespace", ns.Path)
	default:
		return invalid("mode %q of the %s namespace is unknown", ns.Mode, kind)
	}
	if ns.Path != "" && ns.Mode != containerizer.NamespacePath {
		return invalid("%s namespace has path %q but mode %q", kind, ns.Path, ns.Mode)
	}
	return nil
}

// maxMappings is the kernel's (user_namespaces(7)).
const maxMappings = 340

func validateMappings(what string, ms []specs.LinuxIDMapping) error {
	if len(ms) > maxMappings {
		return invalid("%d %s mappings, at most %d are possible", len(ms), what, maxMappings)
	}
	for i, m := range ms {
		if m.Size == 0 {
			return invalid("%s mapping %d:%d has size 0", what, m.ContainerID, m.HostID)
		}
		if uint64(m.ContainerID)+uint64(m.Size) > 1<<32-1 || uint64(m.HostID)+uint64(m.Size) > 1<<32-1 {
			return invalid("%s mapping %d:%d:%d goes beyond the last id", what, m.ContainerID, m.HostID, m.Size)
		}
		for _, o := range ms[:i] {
			if rangesMeet(m.ContainerID, o.ContainerID, m.Size, o.Size) || rangesMeet(m.HostID, o.HostID, m.Size, o.Size) {
				return invalid("%s mappings %d:%d:%d and %d:%d:%d overlap", what, o.ContainerID, o.HostID, o.Size, m.ContainerID, m.HostID, m.Size)
			}
		}
	}
	return nil
}

func rangesMeet(a, b, sizeA, sizeB uint32) bool {
	return uint64(a) < uint64(b)+uint64(sizeB) && uint64(b) < uint64(a)+uint64(sizeA)
}

func validateDevices(_ containerizer.ContainerID, s *containerizer.Spec) error {
	for _, d := range s.Devices {
		if err := hostPath("device", d.HostPath); err != nil {
			return err
		}
		if d.ContainerPath != "" {
			if err := containerPath("device path in the container", d.ContainerPath); err != nil {
				return err
			}
		}
		if strings.Trim(d.Permissions, "rwm") != "" || len(d.Permissions) > 3 {
			return invalid("permissions %q of device %q are not letters of \"rwm\"", d.Permissions, d.HostPath)
		}
	}
	for _, name := range s.CDIDevices {
		kind, dev, ok := strings.Cut(name, "=")
		vendor, class, ok2 := strings.Cut(kind, "/")
		if !ok || !ok2 || vendor == "" || class == "" || dev == "" || hasControl(name) {
			return invalid("CDI device %q is not of the form vendor/class=name", name)
		}
	}
	return nil
}

func validateSecurity(_ containerizer.ContainerID, s *containerizer.Spec) error {
	sec := &s.Security
	switch sec.Seccomp {
	case "", "default", "unconfined":
	default:
		if err := hostPath("seccomp profile", sec.Seccomp); err != nil {
			return err
		}
	}
	if hasControl(sec.AppArmor) {
		return invalid("AppArmor profile %q holds control characters", sec.AppArmor)
	}
	for k, v := range sec.SELinux {
		switch k {
		case "user", "role", "type", "level", "disable", "filetype":
		default:
			return invalid("SELinux label part %q is unknown (user, role, type, level, filetype, disable)", k)
		}
		if hasControl(v) {
			return invalid("SELinux label part %q holds control characters", k)
		}
	}
	for what, list := range map[string]*[]string{"masked path": sec.MaskedPaths, "read-only path": sec.ReadonlyPaths} {
		if list == nil {
			continue
		}
		for _, p := range *list {
			if err := containerPath(what, p); err != nil {
				return err
			}
		}
	}
	return nil
}

func validateNetwork(_ containerizer.ContainerID, s *containerizer.Spec) error {
	n := &s.Network
	for what, name := range map[string]string{"host name": n.Hostname, "domain name": n.Domainname} {
		if len(name) > 64 || hasControl(name) || strings.ContainsAny(name, " /") {
			return invalid("%s %q is longer than 64 bytes or holds blanks, slashes or control characters", what, name)
		}
	}
	for _, server := range n.DNSServers {
		if _, err := netip.ParseAddr(server); err != nil {
			return invalid("DNS server %q is not an IP address", server)
		}
	}
	for _, word := range slices.Concat(n.DNSSearch, n.DNSOptions) {
		if word == "" || hasControl(word) || strings.Contains(word, " ") {
			return invalid("DNS search domain or option %q is empty or holds blanks", word)
		}
	}
	for _, h := range n.ExtraHosts {
		name, addr, ok := strings.Cut(h, ":")
		_, err := netip.ParseAddr(strings.Trim(addr, "[]"))
		if !ok || name == "" || hasControl(name) || strings.Contains(name, " ") || (err != nil && addr != "host-gateway") {
			return invalid("extra host %q is not of the form name:address", h)
		}
	}
	if err := validateAttachments(n.Networks); err != nil {
		return err
	}
	return validatePorts(s)
}

func validatePorts(s *containerizer.Spec) error {
	mode := s.Namespaces.Network.Mode
	if len(s.Network.Ports) > 0 && (s.Network.None || (mode != containerizer.NamespacePrivate && mode != containerizer.NamespaceDefault)) {
		return invalid("ports are published, but the container has no network of its own")
	}
	type key struct {
		proto containerizer.Protocol
		ip    string
		port  uint16
	}
	seen := map[key]bool{}
	for _, p := range s.Network.Ports {
		switch p.Protocol {
		case containerizer.ProtocolTCP, containerizer.ProtocolUDP, containerizer.ProtocolSCTP:
		default:
			return invalid("protocol %q of port %d is unknown (tcp, udp, sctp)", p.Protocol, p.ContainerPort)
		}
		if p.ContainerPort == 0 {
			return invalid("published container port is 0")
		}
		if p.HostIP != "" {
			if _, err := netip.ParseAddr(p.HostIP); err != nil {
				return invalid("host address %q of port %d is not an IP address", p.HostIP, p.ContainerPort)
			}
		}
		k := key{p.Protocol, p.HostIP, p.HostPort}
		if p.HostPort != 0 && seen[k] {
			return invalid("host port %d/%s is published twice", p.HostPort, p.Protocol)
		}
		seen[k] = true
	}
	return nil
}

func validateAttachments(list []containerizer.NetworkAttachment) error {
	for _, a := range list {
		for _, ip := range a.IPs {
			_, err := netip.ParseAddr(ip)
			if _, perr := netip.ParsePrefix(ip); err != nil && perr != nil {
				return invalid("address %q for network %q is not an IP address", ip, a.Name)
			}
		}
		if len(a.IfName) > 15 || strings.ContainsAny(a.IfName, "/ \x00") {
			return invalid("interface name %q is longer than 15 bytes or holds blanks or slashes", a.IfName)
		}
	}
	return nil
}
