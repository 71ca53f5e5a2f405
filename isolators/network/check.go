package network

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// check refuses what the namespace or the form does not allow.
func (i *Isolator) check(c *containerizer.Container, m mode) error {
	n := &c.Spec.Network
	if (n.Hostname != "" || n.Domainname != "") && !utsPrivate(c) {
		return fmt.Errorf("a host name needs a UTS namespace of the container's own: %w", containerizer.ErrInvalid)
	}
	if err := checkNamespace(n, m); err != nil {
		return err
	}
	if err := checkNames(n); err != nil {
		return err
	}
	for _, h := range n.ExtraHosts {
		_, addr, err := splitHost(h)
		if err != nil {
			return err
		}
		if addr == hostGateway && (n.None || m.kind == kindPath) {
			return fmt.Errorf("host entry %q: without a network there is no way to the host: %w", h, containerizer.ErrInvalid)
		}
	}
	for _, a := range n.Networks {
		if err := checkAttachment(a); err != nil {
			return err
		}
	}
	return checkPorts(n.Ports)
}

// checkNamespace refuses what does not go with whose namespace it is. Ports in
// the host's are ignored: they are published by being listened on.
func checkNamespace(n *containerizer.Network, m mode) error {
	refuse := func(because string) error { return fmt.Errorf("%s: %w", because, containerizer.ErrInvalid) }
	settings := len(n.DNSServers) + len(n.DNSSearch) + len(n.DNSOptions) + len(n.ExtraHosts)
	switch {
	case m.kind != kindPrivate && (len(n.Networks) > 0 || n.None):
		return refuse("networks need a network namespace of the container's own")
	case n.None && (len(n.Networks) > 0 || len(n.Ports) > 0):
		return refuse("a container without network can neither join networks nor publish ports")
	case m.kind == kindShared && len(n.Ports) > 0:
		return refuse("ports are published by the container whose network is shared")
	case m.kind == kindPath && len(n.Ports) > 0:
		return refuse("ports cannot be published for a network namespace given by path")
	case m.kind == kindShared && settings > 0:
		return refuse("DNS settings and host entries are those of the container whose network is shared")
	}
	return nil
}

// checkNames refuses whatever would break the lines of the files it goes in.
func checkNames(n *containerizer.Network) error {
	for _, s := range []string{n.Hostname, n.Domainname} {
		if s != "" && (len(s) > 64 || !isHostName(s)) {
			return fmt.Errorf("host or domain name %q: at most 64 letters, digits, '-', '_' and '.' are possible: %w", s, containerizer.ErrInvalid)
		}
	}
	isAddress := func(s string) bool { _, err := netip.ParseAddr(s); return err == nil }
	isDomain := func(s string) bool { return s == "." || isHostName(strings.TrimSuffix(s, ".")) }
	for _, list := range []struct {
		what   string
		values []string
		fits   func(string) bool
	}{
		{"DNS server %q is no address", n.DNSServers, isAddress},
		{"DNS search domain %q is no domain name", n.DNSSearch, isDomain},
		{"DNS option %q is not one word", n.DNSOptions, isWord},
	} {
		for _, v := range list.values {
			if !list.fits(v) {
				return fmt.Errorf(list.what+": %w", v, containerizer.ErrInvalid)
			}
		}
	}
	return nil
}

func checkAttachment(a containerizer.NetworkAttachment) error {
	for _, s := range a.Aliases {
		if !isHostName(s) {
			return fmt.Errorf("network alias %q is no host name: %w", s, containerizer.ErrInvalid)
		}
	}
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
