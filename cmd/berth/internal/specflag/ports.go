package specflag

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// ports sets the published ports.
func (f *networkFlags) ports(host Host, spec *containerizer.Spec) error {
	var all []containerizer.PortMapping
	for _, p := range f.publish {
		m, err := parsePublish(p)
		if err != nil {
			return err
		}
		all = append(all, m...)
	}
	exposed, err := f.exposed(host, spec)
	if err != nil {
		return err
	}
	for _, m := range exposed {
		if !slices.ContainsFunc(all, func(o containerizer.PortMapping) bool {
			return o.ContainerPort == m.ContainerPort && o.Protocol == m.Protocol
		}) {
			all = append(all, m)
		}
	}
	if len(all) == 0 {
		return nil
	}
	if err := requireNetwork(spec, "--publish"); err != nil {
		return err
	}
	spec.Network.Ports = all
	return nil
}

// exposed lists what -P publishes.
func (f *networkFlags) exposed(host Host, spec *containerizer.Spec) ([]containerizer.PortMapping, error) {
	var all []containerizer.PortMapping
	for _, e := range f.expose {
		m, err := parseExposed("--expose", e)
		if err != nil {
			return nil, err
		}
		all = append(all, m...)
	}
	if !f.publishAll {
		if len(all) > 0 {
			return nil, invalidf("--expose declares ports for --publish-all (-P), which is not given")
		}
		return nil, nil
	}
	if spec.Image == nil {
		return all, nil
	}
	declared, err := host.ExposedPorts(*spec.Image)
	if err != nil {
		return nil, err
	}
	for _, e := range declared {
		m, err := parseExposed("the image's exposed port", e)
		if err != nil {
			return nil, err
		}
		all = append(all, m...)
	}
	return all, nil
}

// parseExposed parses "PORT[-PORT][/PROTOCOL]".
func parseExposed(what, value string) ([]containerizer.PortMapping, error) {
	ports, proto, err := protocol(what, value)
	if err != nil {
		return nil, err
	}
	first, last, err := portRange(what, value, ports)
	if err != nil {
		return nil, err
	}
	var out []containerizer.PortMapping
	for p := int(first); p <= int(last); p++ {
		out = append(out, containerizer.PortMapping{Protocol: proto, ContainerPort: uint16(p)})
	}
	return out, nil
}

// parsePublish parses Docker's "[[IP:][HOST[-HOST]]:]CONTAINER[-CONTAINER][/PROTOCOL]".
func parsePublish(value string) ([]containerizer.PortMapping, error) {
	rest, proto, err := protocol("--publish", value)
	if err != nil {
		return nil, err
	}
	ip, rest, err := hostAddress(value, rest)
	if err != nil {
		return nil, err
	}
	hostPart, containerPart := "", rest
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		hostPart, containerPart = rest[:i], rest[i+1:]
	}
	first, last, err := portRange("--publish", value, containerPart)
	if err != nil {
		return nil, err
	}
	var hostFirst uint16
	if hostPart != "" && hostPart != "0" {
		hf, hl, err := portRange("--publish", value, hostPart)
		if err != nil {
			return nil, err
		}
		if hl-hf != last-first {
			return nil, invalidf("--publish %q: the ranges on both sides differ in length", value)
		}
		hostFirst = hf
	}
	var out []containerizer.PortMapping
	for i := 0; i <= int(last-first); i++ {
		m := containerizer.PortMapping{Protocol: proto, ContainerPort: first + uint16(i), HostIP: ip}
		if hostFirst != 0 {
			m.HostPort = hostFirst + uint16(i)
		}
		out = append(out, m)
	}
	return out, nil
}

// hostAddress splits an address and its colon off the front of rest.
func hostAddress(value, rest string) (ip, ports string, err error) {
	address := ""
	switch {
	case strings.HasPrefix(rest, "["):
		i := strings.Index(rest, "]:")
		if i < 0 {
			return "", "", invalidf("--publish %q: the address in brackets does not end with ']:'", value)
		}
		address, ports = rest[1:i], rest[i+2:]
	case strings.Count(rest, ":") == 2:
		address, ports, _ = strings.Cut(rest, ":")
		if address == "" {
			return "", ports, nil
		}
	case strings.Count(rest, ":") > 2:
		return "", "", invalidf("--publish %q has too many ':' (an IPv6 address stands in brackets)", value)
	default:
		return "", rest, nil
	}
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return "", "", invalidf("--publish %q: %q is not an address", value, address)
	}
	return addr.String(), ports, nil
}

func protocol(what, value string) (ports string, p containerizer.Protocol, err error) {
	ports, name, given := strings.Cut(value, "/")
	if !given {
		return ports, containerizer.ProtocolTCP, nil
	}
	switch p = containerizer.Protocol(strings.ToLower(name)); p {
	case containerizer.ProtocolTCP, containerizer.ProtocolUDP, containerizer.ProtocolSCTP:
		return ports, p, nil
	}
	return "", "", invalidf("%s %q: protocol %q is not tcp, udp or sctp", what, value, name)
}

func portRange(what, value, s string) (first, last uint16, err error) {
	a, b, ranged := strings.Cut(s, "-")
	if !ranged {
		b = a
	}
	f, errF := strconv.ParseUint(a, 10, 16)
	l, errL := strconv.ParseUint(b, 10, 16)
	if errF != nil || errL != nil || f == 0 || l < f {
		return 0, 0, invalidf("%s %q: %q is not a port or a range of ports", what, value, s)
	}
	return uint16(f), uint16(l), nil
}
