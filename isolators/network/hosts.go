package network

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// hostGateway in a host entry stands for the host's address as containers see it.
const hostGateway = "host-gateway"

const localhostLines = "127.0.0.1\tlocalhost\n" +
	"::1\tlocalhost ip6-localhost ip6-loopback\n" +
	"fe00::\tip6-localnet\n" +
	"ff00::\tip6-mcastprefix\n" +
	"ff02::1\tip6-allnodes\n" +
	"ff02::2\tip6-allrouters\n"

// hosts is the content of /etc/hosts. The container's addresses and the host's
// are known once rec has results; before, their lines are missing.
func (i *Isolator) hosts(c *containerizer.Container, m mode, rec *record) string {
	var b strings.Builder
	if m.kind == kindHost {
		b.WriteString(i.hostHosts())
	} else {
		b.WriteString(localhostLines)
	}
	gateway := ""
	switch {
	case m.kind == kindHost:
		gateway = "127.0.0.1"
	case rec != nil:
		gateway = rec.gateway()
	}
	for _, h := range c.Spec.Network.ExtraHosts {
		name, addr, err := splitHost(h)
		if err == nil && addr == hostGateway {
			addr = gateway
		}
		if err == nil && addr != "" {
			fmt.Fprintf(&b, "%s\t%s\n", addr, name)
		}
	}
	names := i.names(c, m)
	switch {
	case m.kind == kindHost:
	case c.Spec.Network.None:
		fmt.Fprintf(&b, "127.0.0.1\t%s\n", names)
	case rec != nil:
		for _, a := range rec.Networks {
			for _, ip := range a.Status.IPs {
				line := names
				if len(a.Aliases) > 0 {
					line += " " + strings.Join(a.Aliases, " ")
				}
				addr, _, _ := strings.Cut(ip, "/")
				fmt.Fprintf(&b, "%s\t%s\n", addr, line)
			}
		}
	}
	return b.String()
}

// names are the container's own, the full one first.
func (i *Isolator) names(c *containerizer.Container, m mode) string {
	name := i.hostname(c, m)
	if d := c.Spec.Network.Domainname; d != "" {
		return name + "." + d + " " + name
	}
	return name
}

// hostHosts is the host's file, for containers in the host's network.
func (i *Isolator) hostHosts() string {
	b, err := os.ReadFile(filepath.Join(i.opts.HostRoot, "etc/hosts"))
	if err != nil || len(b) == 0 {
		return localhostLines
	}
	return strings.TrimRight(string(b), "\n") + "\n"
}

// splitHost reads "name:address" or "name=address"; an address of version 6 may
// stand in brackets.
func splitHost(s string) (name, addr string, err error) {
	at := strings.IndexAny(s, ":=")
	if at < 0 {
		return "", "", fmt.Errorf("host entry %q: want name:address: %w", s, containerizer.ErrInvalid)
	}
	name, addr = s[:at], s[at+1:]
	if !isHostName(name) {
		return "", "", fmt.Errorf("host entry %q: %q is no host name: %w", s, name, containerizer.ErrInvalid)
	}
	if addr == hostGateway {
		return name, addr, nil
	}
	if strings.HasPrefix(addr, "[") && strings.HasSuffix(addr, "]") {
		addr = addr[1 : len(addr)-1]
	}
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return "", "", fmt.Errorf("host entry %q: %q is no address: %w", s, addr, containerizer.ErrInvalid)
	}
	return name, ip.String(), nil
}
