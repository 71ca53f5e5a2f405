package specflag

import (
	"encoding/csv"
	"net"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/containerizer"
)

// networkFlags describe the container's network and what it is called in it.
type networkFlags struct {
	networks             []string
	aliases              []string
	ip, ip6, mac         string
	publish, expose      []string
	publishAll           bool
	hostname, domainname string
	dns, search, options []string
	hosts                []string
	noHosts              bool
}

func (f *networkFlags) register(set *pflag.FlagSet) {
	list(set, &f.networks, "network", "", "`network`: a name, none, host, container:NAME or ns:PATH")
	list(set, &f.networks, "net", "", "the same as --network")
	set.Lookup("net").Hidden = true
	list(set, &f.aliases, "network-alias", "", "additional `name` of the container in its network")
	set.StringVar(&f.ip, "ip", "", "IPv4 `address`")
	set.StringVar(&f.ip6, "ip6", "", "IPv6 `address`")
	set.StringVar(&f.mac, "mac-address", "", "MAC `address`")
	list(set, &f.publish, "publish", "p", "publish a port (`[[IP:]HOST:]CONTAINER[/PROTOCOL]`)")
	list(set, &f.expose, "expose", "", "a `port` to publish with -P besides the image's")
	set.BoolVarP(&f.publishAll, "publish-all", "P", false, "publish all exposed ports on free ports of the host")
	set.StringVarP(&f.hostname, "hostname", "h", "", "host `name` of the container")
	set.StringVar(&f.domainname, "domainname", "", "NIS domain `name` of the container")
	list(set, &f.dns, "dns", "", "DNS `server`")
	list(set, &f.search, "dns-search", "", "DNS search `domain`")
	list(set, &f.options, "dns-option", "", "`option` for resolv.conf")
	list(set, &f.hosts, "add-host", "", "a line for /etc/hosts (`NAME:IP`; the IP host-gateway is the host's)")
	set.BoolVar(&f.noHosts, "no-hosts", false, "leave /etc/hosts as the image has it")
}

func (f *networkFlags) apply(host Host, spec *containerizer.Spec) error {
	if err := f.join(host, spec); err != nil {
		return err
	}
	if err := f.ports(host, spec); err != nil {
		return err
	}
	if err := f.names(spec); err != nil {
		return err
	}
	return f.hostName(host, spec)
}

// join chooses the network namespace and the networks in it.
func (f *networkFlags) join(host Host, spec *containerizer.Spec) error {
	n := &spec.Network
	for _, value := range f.networks {
		kind, _, _ := strings.Cut(value, ":")
		switch {
		case value == "none":
			n.None = true
		case value == "host" || kind == "container" || kind == "ns":
			ns, err := namespace(host, "--network", value)
			if err != nil {
				return err
			}
			spec.Namespaces.Network = ns
		default:
			a, err := parseNetwork(value)
			if err != nil {
				return err
			}
			n.Networks = append(n.Networks, a)
			continue
		}
		if len(f.networks) > 1 {
			return invalidf("--network %s stands alone; only named networks can be several", value)
		}
	}
	return f.firstAttachment(spec)
}

// firstAttachment applies the flags that are about one network to the first.
func (f *networkFlags) firstAttachment(spec *containerizer.Spec) error {
	if f.ip == "" && f.ip6 == "" && f.mac == "" && len(f.aliases) == 0 {
		return nil
	}
	if err := requireNetwork(spec, "--ip, --ip6, --mac-address and --network-alias"); err != nil {
		return err
	}
	if len(spec.Network.Networks) == 0 {
		spec.Network.Networks = []containerizer.NetworkAttachment{{}}
	}
	a := &spec.Network.Networks[0]
	for _, v := range []struct {
		flag, value string
		v6          bool
	}{{"--ip", f.ip, false}, {"--ip6", f.ip6, true}} {
		if v.value == "" {
			continue
		}
		addr, err := netip.ParseAddr(v.value)
		if err != nil || addr.Is6() != v.v6 {
			return invalidf("%s %q is not an address of that family", v.flag, v.value)
		}
		a.IPs = append(a.IPs, addr.String())
	}
	if f.mac != "" {
		mac, err := parseMAC("--mac-address", f.mac)
		if err != nil {
			return err
		}
		a.MAC = mac
	}
	a.Aliases = append(a.Aliases, f.aliases...)
	return nil
}

// requireNetwork refuses flags that need a network of the container's own.
func requireNetwork(spec *containerizer.Spec, flags string) error {
	switch {
	case spec.Network.None:
		return invalidf("%s: the container has --network none", flags)
	case spec.Namespaces.Network.Mode == containerizer.NamespaceHost:
		return invalidf("%s: with --network host the container has no address or port of its own", flags)
	case spec.Namespaces.Network.Mode != containerizer.NamespaceDefault:
		return invalidf("%s: the network namespace that is joined is configured already", flags)
	}
	return nil
}

func parseMAC(flag, value string) (string, error) {
	mac, err := net.ParseMAC(value)
	if err != nil || len(mac) != 6 {
		return "", invalidf("%s %q is not a MAC address", flag, value)
	}
	return mac.String(), nil
}

// parseNetwork parses a network: its name, Docker's "name=NAME,ip=…,alias=…" or
// Podman's "NAME:ip=…,alias=…".
func parseNetwork(value string) (containerizer.NetworkAttachment, error) {
	var a containerizer.NetworkAttachment
	options := ""
	name, rest, podman := strings.Cut(value, ":")
	switch {
	case podman && strings.Contains(rest, "=") && !strings.Contains(name, "="):
		a.Name, options = name, rest
	case strings.Contains(value, "="):
		options = value
	default:
		a.Name = value
	}
	if options != "" {
		fields, err := csv.NewReader(strings.NewReader(options)).Read()
		if err != nil {
			return a, invalidf("--network %q: %v", value, err)
		}
		for _, field := range fields {
			if err := networkOption(&a, value, field); err != nil {
				return a, err
			}
		}
	}
	switch {
	case a.Name == "default" || a.Name == "bridge":
		a.Name = ""
	case a.Name == "" || strings.ContainsAny(a.Name, "/ \t\n\x00"):
		return a, invalidf("--network %q names no network", value)
	}
	return a, nil
}

func networkOption(a *containerizer.NetworkAttachment, value, field string) (err error) {
	key, v, _ := strings.Cut(field, "=")
	if v == "" {
		return invalidf("--network %q: option %q has no value", value, field)
	}
	switch key {
	case "name":
		a.Name = v
	case "ip", "ip6":
		addr, err := netip.ParseAddr(v)
		if err != nil {
			return invalidf("--network %q: %q is not an address", value, v)
		}
		a.IPs = append(a.IPs, addr.String())
	case "mac", "mac-address":
		a.MAC, err = parseMAC("--network "+value+":", v)
	case "alias":
		a.Aliases = append(a.Aliases, v)
	case "interface_name", "ifname":
		a.IfName = v
	default:
		err = invalidf("--network %q: no option %q (name, ip, ip6, mac, alias and interface_name exist)", value, key)
	}
	return err
}

// names sets what goes into resolv.conf and hosts.
func (f *networkFlags) names(spec *containerizer.Spec) error {
	n := &spec.Network
	for _, s := range f.dns {
		if _, err := netip.ParseAddr(s); err != nil {
			return invalidf("--dns %q is not an address", s)
		}
	}
	n.DNSServers, n.DNSSearch, n.DNSOptions = f.dns, f.search, f.options
	if f.noHosts && len(f.hosts) > 0 {
		return invalidf("--no-hosts leaves /etc/hosts alone, --add-host changes it: use one")
	}
	n.NoHosts = f.noHosts
	for _, h := range f.hosts {
		i := strings.IndexAny(h, "=:")
		if i <= 0 {
			return invalidf("--add-host %q is not NAME:IP", h)
		}
		name, ip := h[:i], strings.Trim(h[i+1:], "[]")
		if _, err := netip.ParseAddr(ip); err != nil && ip != "host-gateway" {
			return invalidf("--add-host %q: %q is not an address", h, ip)
		}
		if strings.ContainsAny(name, " \t\n\x00#") {
			return invalidf("--add-host %q: %q is not a host name", h, name)
		}
		n.ExtraHosts = append(n.ExtraHosts, name+":"+ip)
	}
	return nil
}

// hostName sets host and domain name; a container in the host's network is called
// as the host, as with Docker.
func (f *networkFlags) hostName(host Host, spec *containerizer.Spec) error {
	private := spec.Namespaces.UTS.Mode == containerizer.NamespaceDefault ||
		spec.Namespaces.UTS.Mode == containerizer.NamespacePrivate
	if !private {
		if f.hostname != "" || f.domainname != "" {
			return invalidf("--hostname and --domainname need a host name namespace of the container's own (--uts private)")
		}
		return nil
	}
	if len(f.hostname) > 64 || len(f.domainname) > 64 {
		return invalidf("--hostname and --domainname hold at most 64 bytes")
	}
	spec.Network.Hostname, spec.Network.Domainname = f.hostname, f.domainname
	if f.hostname != "" || spec.Namespaces.Network.Mode != containerizer.NamespaceHost {
		return nil
	}
	name, err := host.Hostname()
	if err != nil {
		return err
	}
	spec.Network.Hostname = name
	return nil
}
