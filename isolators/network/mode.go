package network

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// kind says what network namespace a container is in.
type kind int

const (
	kindPrivate kind = iota // its own
	kindHost
	kindPath   // one that somebody else configured
	kindShared // that of container mode.owner
)

type mode struct {
	kind  kind
	owner containerizer.ContainerID // whose files apply
}

func modeOf(c *containerizer.Container) (mode, error) {
	return resolve(c, func(n *containerizer.Namespaces) containerizer.Namespace { return n.Network })
}

// utsOf is the same for the host name.
func utsOf(c *containerizer.Container) (mode, error) {
	return resolve(c, func(n *containerizer.Namespaces) containerizer.Namespace { return n.UTS })
}

func utsPrivate(c *containerizer.Container) bool {
	m, err := utsOf(c)
	return err == nil && m.kind == kindPrivate
}

// resolve follows a choice of namespace up the tree to the container that has it.
func resolve(c *containerizer.Container, choice func(*containerizer.Namespaces) containerizer.Namespace) (mode, error) {
	for at := c; ; at = at.Parent {
		ns := choice(&at.Spec.Namespaces)
		switch ns.Mode {
		case containerizer.NamespaceDefault, containerizer.NamespaceParent:
			if at.Parent != nil {
				continue
			}
			if ns.Mode == containerizer.NamespaceParent {
				return mode{}, fmt.Errorf("container %q shares a namespace with its parent and has none: %w", at.ID.Short(), containerizer.ErrInvalid)
			}
		case containerizer.NamespaceContainer:
			if ns.Container == "" {
				return mode{}, fmt.Errorf("container %q joins the namespace of a container that it does not name: %w", at.ID.Short(), containerizer.ErrInvalid)
			}
			return mode{kindShared, ns.Container}, nil
		case containerizer.NamespaceHost:
			return own(c, at, kindHost), nil
		case containerizer.NamespacePath:
			return own(c, at, kindPath), nil
		case containerizer.NamespacePrivate:
		default:
			return mode{}, fmt.Errorf("namespace mode %q is unknown: %w", ns.Mode, containerizer.ErrInvalid)
		}
		return own(c, at, kindPrivate), nil
	}
}

// own is k for the container that chose it, and shared for those below.
func own(c, at *containerizer.Container, k kind) mode {
	if c != at {
		k = kindShared
	}
	return mode{k, at.ID}
}

// check refuses what the namespace or the form does not allow.
func (i *Isolator) check(c *containerizer.Container, m mode) error {
	n := &c.Spec.Network
	if err := checkNames(n); err != nil {
		return err
	}
	if err := checkPorts(n.Ports); err != nil {
		return err
	}
	if (n.Hostname != "" || n.Domainname != "") && !utsPrivate(c) {
		return fmt.Errorf("a host name needs a UTS namespace of the container's own: %w", containerizer.ErrInvalid)
	}
	if m.kind != kindPrivate && (len(n.Networks) > 0 || n.None) {
		return fmt.Errorf("networks need a network namespace of the container's own: %w", containerizer.ErrInvalid)
	}
	if n.None && (len(n.Networks) > 0 || len(n.Ports) > 0) {
		return fmt.Errorf("a container without network can neither join networks nor publish ports: %w", containerizer.ErrInvalid)
	}
	if m.kind == kindShared && len(n.Ports) > 0 {
		return fmt.Errorf("ports are published by the container whose network is shared: %w", containerizer.ErrInvalid)
	}
	if m.kind == kindPath && len(n.Ports) > 0 {
		return fmt.Errorf("ports cannot be published for a network namespace given by path: %w", containerizer.ErrInvalid)
	}
	if m.kind == kindShared && (len(n.DNSServers)+len(n.DNSSearch)+len(n.DNSOptions)+len(n.ExtraHosts) > 0) {
		return fmt.Errorf("DNS settings and host entries are those of the container whose network is shared: %w", containerizer.ErrInvalid)
	}
	for _, h := range n.ExtraHosts {
		if _, addr, _ := splitHost(h); addr == hostGateway && (n.None || m.kind == kindPath) {
			return fmt.Errorf("host entry %q: without a network there is no way to the host: %w", h, containerizer.ErrInvalid)
		}
	}
	return nil
}

// checkNames refuses whatever would break the lines of the files it goes in.
func checkNames(n *containerizer.Network) error {
	for what, names := range map[string][]string{"host name": {n.Hostname}, "domain name": {n.Domainname}} {
		for _, s := range names {
			if s != "" && (len(s) > 64 || !isHostName(s)) {
				return fmt.Errorf("%s %q: at most 64 letters, digits, '-', '_' and '.' are possible: %w", what, s, containerizer.ErrInvalid)
			}
		}
	}
	for _, s := range n.DNSServers {
		if _, err := netip.ParseAddr(s); err != nil {
			return fmt.Errorf("DNS server %q is no address: %w", s, containerizer.ErrInvalid)
		}
	}
	for _, s := range n.DNSSearch {
		if s != "." && !isHostName(strings.TrimSuffix(s, ".")) {
			return fmt.Errorf("DNS search domain %q is no domain name: %w", s, containerizer.ErrInvalid)
		}
	}
	for _, s := range n.DNSOptions {
		if !isWord(s) {
			return fmt.Errorf("DNS option %q is not one word: %w", s, containerizer.ErrInvalid)
		}
	}
	for _, h := range n.ExtraHosts {
		if _, _, err := splitHost(h); err != nil {
			return err
		}
	}
	for _, a := range n.Networks {
		for _, s := range a.Aliases {
			if !isHostName(s) {
				return fmt.Errorf("network alias %q is no host name: %w", s, containerizer.ErrInvalid)
			}
		}
		if err := checkAttachment(a); err != nil {
			return err
		}
	}
	return nil
}

func checkAttachment(a containerizer.NetworkAttachment) error {
	for _, ip := range a.IPs {
		if _, err := netip.ParsePrefix(ip); err == nil {
			continue
		}
		if _, err := netip.ParseAddr(ip); err != nil {
			return fmt.Errorf("address %q for network %q is none: %w", ip, a.Name, containerizer.ErrInvalid)
		}
	}
	if a.MAC != "" {
		if mac, err := net.ParseMAC(a.MAC); err != nil || len(mac) != 6 {
			return fmt.Errorf("hardware address %q for network %q is none: %w", a.MAC, a.Name, containerizer.ErrInvalid)
		}
	}
	for k, v := range a.Args {
		if k == "" || strings.ContainsAny(k+v, ";\x00\n") || strings.Contains(k, "=") {
			return fmt.Errorf("argument %q=%q for network %q does not fit CNI_ARGS: %w", k, v, a.Name, containerizer.ErrInvalid)
		}
	}
	return nil
}

func isHostName(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r) {
			return false
		}
	}
	return s != "" && s[0] != '.' && s[0] != '-'
}

func isWord(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' || r == ';' })
}

// checkPorts refuses ports that are malformed or named twice.
func checkPorts(ports []containerizer.PortMapping) error {
	seen := map[containerizer.PortMapping]bool{}
	for _, p := range ports {
		switch p.Protocol {
		case containerizer.ProtocolTCP, containerizer.ProtocolUDP, containerizer.ProtocolSCTP, "":
		default:
			return fmt.Errorf("publish port %d: protocol %q is none of tcp, udp and sctp: %w", p.ContainerPort, p.Protocol, containerizer.ErrInvalid)
		}
		if p.ContainerPort == 0 {
			return fmt.Errorf("publish port: the container's port is 0: %w", containerizer.ErrInvalid)
		}
		if p.HostIP != "" {
			if _, err := netip.ParseAddr(p.HostIP); err != nil {
				return fmt.Errorf("publish port %d: host address %q is none: %w", p.ContainerPort, p.HostIP, containerizer.ErrInvalid)
			}
		}
		key := p
		key.Protocol = protocolOf(p)
		if p.HostPort != 0 {
			key.ContainerPort = 0
			if seen[key] {
				return fmt.Errorf("publish port: host port %d/%s is named twice: %w", p.HostPort, key.Protocol, containerizer.ErrInvalid)
			}
			seen[key] = true
		}
	}
	return nil
}

func protocolOf(p containerizer.PortMapping) containerizer.Protocol {
	if p.Protocol == "" {
		return containerizer.ProtocolTCP
	}
	return p.Protocol
}

// uidMappings are those of the container's user namespace.
func uidMappings(c *containerizer.Container) []specs.LinuxIDMapping {
	if c.Launch != nil && len(c.Launch.UIDMappings) > 0 {
		return c.Launch.UIDMappings
	}
	return c.Spec.Namespaces.UIDMappings
}

func gidMappings(c *containerizer.Container) []specs.LinuxIDMapping {
	if c.Launch != nil && len(c.Launch.GIDMappings) > 0 {
		return c.Launch.GIDMappings
	}
	return c.Spec.Namespaces.GIDMappings
}

// rootID is what 0 is mapped to.
func rootID(mappings []specs.LinuxIDMapping) int {
	for _, m := range mappings {
		if m.ContainerID == 0 && m.Size > 0 {
			return int(m.HostID)
		}
	}
	return 0
}
