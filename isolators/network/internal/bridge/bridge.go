package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/network/internal/hostport"
	"github.com/berth-dev/berth/isolators/network/internal/ipam"
	"github.com/berth-dev/berth/isolators/network/internal/nat"
)

// Plugin answers requests for one state directory.
type Plugin struct {
	// AddressDir holds the address stores of all networks.
	AddressDir string
	// Ports knows whose the host's ports are.
	Ports *hostport.Registry
	// Warn is told what the node cannot do and containers go without.
	Warn func(network string, err error)
}

// Add attaches a container and returns the result in the configuration's version.
func (p *Plugin) Add(ctx context.Context, r Request) ([]byte, error) {
	c, err := parse(r.Config)
	if err != nil {
		return nil, err
	}
	br, err := ensureBridge(ctx, c)
	if err != nil {
		return nil, err
	}
	owner := ipam.Owner{ID: r.ContainerID, IfName: r.IfName}
	want, err := wanted(c)
	if err != nil {
		return nil, err
	}
	addrs, err := ipam.Open(p.AddressDir, c.Name).Reserve(owner, c.Subnets, want)
	if err != nil {
		return nil, fmt.Errorf("network %q: %w", c.Name, err)
	}
	mac := hardwareAddress(c, addrs)
	pair, err := connect(ctx, br, r, mac, prefixes(c, addrs))
	if err != nil {
		return nil, fmt.Errorf("attach to bridge %q: %w", c.Bridge, err)
	}
	if err := p.translate(ctx, c, r, addrs); err != nil {
		return nil, err
	}
	return encode(c, r, br, pair, addrs)
}

func wanted(c *Config) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, ip := range c.Runtime.IPs {
		a, err := parseAddress(ip)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

// hardwareAddress derives one from the first IPv4 address, so that neighbours'
// caches stay right when an address is given to another container.
func hardwareAddress(c *Config, addrs []netip.Addr) net.HardwareAddr {
	if mac, err := net.ParseMAC(c.Runtime.MAC); err == nil {
		return mac
	}
	for _, a := range addrs {
		if a.Is4() {
			return append(net.HardwareAddr{0x0a, 0x58}, a.AsSlice()...)
		}
	}
	last := addrs[0].As16()
	return append(net.HardwareAddr{0x0a, 0x58}, last[12:]...)
}

func prefixes(c *Config, addrs []netip.Addr) []netip.Prefix {
	out := make([]netip.Prefix, len(addrs))
	for i, a := range addrs {
		out[i] = netip.PrefixFrom(a, c.Subnets[i].Bits())
	}
	return out
}

// translate makes the rules of the bridge and publishes ports. Without NAT in the
// kernel a container without ports goes on, and Warn is told.
func (p *Plugin) translate(ctx context.Context, c *Config, r Request, addrs []netip.Addr) error {
	table, err := nat.Open()
	if err == nil {
		defer func() { _ = table.Close() }() // a socket
		err = p.translateIn(ctx, table, c, r, addrs)
	}
	if errors.Is(err, containerizer.ErrUnsupported) && len(c.Runtime.PortMappings) == 0 {
		p.Warn(c.Name, err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("network %q: %w", c.Name, err)
	}
	return nil
}

func (p *Plugin) translateIn(ctx context.Context, table *nat.Table, c *Config, r Request, addrs []netip.Addr) error {
	if err := p.ensureRules(ctx, table, c); err != nil {
		return err
	}
	if len(c.Runtime.PortMappings) == 0 {
		return nil
	}
	if err := openLoopback(c.Bridge); err != nil {
		return err
	}
	return p.publish(table, c, r, addrs)
}

// ensureRules makes the table and the bridge's place in it. With the table, ports
// of running containers are published again before anybody else changes it.
func (p *Plugin) ensureRules(ctx context.Context, table *nat.Table, c *Config) error {
	b := nat.Bridge{Name: c.Bridge, Subnets: c.Subnets, Masquerade: c.Masquerade, Isolate: c.Isolate}
	known, err := table.Knows(b)
	if err != nil {
		return err
	}
	allowed, err := table.ForwardAllowed(b)
	if err != nil || (known && allowed) {
		return err
	}
	return Exclusive(ctx, func() error {
		if err := table.AllowForward(b); err != nil {
			return err
		}
		created, err := table.EnsureBridge(b)
		if err != nil || !created {
			return err
		}
		return p.republish(table)
	})
}

// publish notes the targets of each port before its rules exist.
func (p *Plugin) publish(table *nat.Table, c *Config, r Request, addrs []netip.Addr) error {
	var all []nat.Mapping
	for _, pm := range c.Runtime.PortMappings {
		port := pm.port()
		maps := mappings(port, addrs)
		if len(maps) == 0 {
			return fmt.Errorf("publish port %d: no address of the container (%v) is of the family of host address %q: %w", pm.HostPort, addrs, pm.HostIP, containerizer.ErrInvalid)
		}
		targets := make([]netip.AddrPort, len(maps))
		for i, m := range maps {
			targets[i] = m.Container
		}
		if err := p.Ports.SetTargets(r.ContainerID, port, targets); err != nil {
			return err
		}
		all = append(all, maps...)
	}
	if err := table.Publish(all); err != nil {
		return err
	}
	forgetFlows(all)
	return nil
}

// mappings are the translations that make port lead to addrs.
func mappings(port containerizer.PortMapping, addrs []netip.Addr) []nat.Mapping {
	var out []nat.Mapping
	for _, a := range addrs {
		host := netip.IPv4Unspecified()
		if a.Is6() {
			host = netip.IPv6Unspecified()
		}
		if ip, err := netip.ParseAddr(port.HostIP); err == nil {
			if ip = ip.Unmap(); ip.Is4() != a.Is4() {
				continue
			}
			host = ip
		}
		out = append(out, nat.Mapping{
			Protocol: port.Protocol, Host: netip.AddrPortFrom(host, port.HostPort),
			Container: netip.AddrPortFrom(a, port.ContainerPort),
		})
	}
	return out
}

// mappingsOf are those of a reservation, from its targets.
func mappingsOf(e hostport.Reservation) []nat.Mapping {
	addrs := make([]netip.Addr, len(e.Targets))
	for i, t := range e.Targets {
		addrs[i] = t.Addr()
	}
	return mappings(e.Port, addrs)
}

// republish publishes what the registry knows, after the table was lost.
func (p *Plugin) republish(table *nat.Table) error {
	entries, err := p.Ports.List()
	if err != nil {
		return err
	}
	var all []nat.Mapping
	for _, e := range entries {
		all = append(all, mappingsOf(e)...)
	}
	return table.Publish(all)
}

// Del detaches a container. It is idempotent.
func (p *Plugin) Del(r Request) error {
	c, err := parse(r.Config)
	if err != nil {
		return err
	}
	if err := p.unpublish(c, r.ContainerID); err != nil {
		return fmt.Errorf("network %q: %w", c.Name, err)
	}
	if err := disconnect(r); err != nil {
		return err
	}
	owner := ipam.Owner{ID: r.ContainerID, IfName: r.IfName}
	if err := ipam.Open(p.AddressDir, c.Name).Release(owner, previous(c)...); err != nil {
		return fmt.Errorf("network %q: %w", c.Name, err)
	}
	return nil
}

func (p *Plugin) unpublish(c *Config, id string) error {
	var all []nat.Mapping
	for _, pm := range c.Runtime.PortMappings {
		e, found, err := p.Ports.Get(hostport.Name(pm.port()))
		if err != nil && !errors.Is(err, containerizer.ErrDataCorrupt) {
			return err
		}
		if found && e.Owner == id {
			all = append(all, mappingsOf(e)...)
		}
	}
	if len(all) == 0 {
		return nil
	}
	table, err := nat.Open()
	if err == nil {
		defer func() { _ = table.Close() }() // a socket
		err = table.Unpublish(all)
	}
	if errors.Is(err, containerizer.ErrUnsupported) {
		return nil // then there are no rules
	}
	return err
}

// previous are the addresses of an earlier result, as far as it can be read.
func previous(c *Config) []netip.Addr {
	var result types100.Result
	if len(c.PrevResult) == 0 || json.Unmarshal(c.PrevResult, &result) != nil {
		return nil
	}
	var out []netip.Addr
	for _, ip := range result.IPs {
		if a, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// Check says whether a container is still attached.
func (p *Plugin) Check(r Request) error {
	c, err := parse(r.Config)
	if err != nil {
		return err
	}
	held, err := ipam.Open(p.AddressDir, c.Name).Addresses()
	if err != nil {
		return err
	}
	for _, o := range held {
		if o.ID == r.ContainerID && o.IfName == r.IfName {
			return checkPair(r)
		}
	}
	return fmt.Errorf("network %q: container %q has no address: %w", c.Name, r.ContainerID, containerizer.ErrNotFound)
}

func encode(c *Config, r Request, br bridgeLink, pair pair, addrs []netip.Addr) ([]byte, error) {
	result := &types100.Result{
		CNIVersion: types100.ImplementedSpecVersion,
		Interfaces: []*types100.Interface{
			{Name: c.Bridge, Mac: br.mac.String(), Mtu: br.mtu},
			{Name: pair.host, Mac: pair.hostMAC.String(), Mtu: br.mtu},
			{Name: r.IfName, Mac: pair.mac.String(), Mtu: br.mtu, Sandbox: r.NetNS},
		},
		DNS: c.DNS,
	}
	inContainer := 2
	for i, a := range addrs {
		subnet := c.Subnets[i]
		gateway := net.IP(ipam.Gateway(subnet).AsSlice())
		bits := subnet.Addr().BitLen()
		result.IPs = append(result.IPs, &types100.IPConfig{
			Interface: &inContainer, Gateway: gateway,
			Address: net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(subnet.Bits(), bits)},
		})
		result.Routes = append(result.Routes, &types.Route{Dst: net.IPNet{IP: make(net.IP, bits/8), Mask: net.CIDRMask(0, bits)}, GW: gateway})
	}
	versioned, err := result.GetAsVersion(c.CNIVersion)
	if err != nil {
		return nil, fmt.Errorf("network %q: %w: %w", c.Name, err, containerizer.ErrInvalid)
	}
	b, err := json.Marshal(versioned)
	if err != nil {
		return nil, fmt.Errorf("encode the result of network %q: %w", c.Name, err)
	}
	return b, nil
}

// writeSysctl sets a sysctl unless it has the value.
func writeSysctl(path, value string) error {
	if b, err := os.ReadFile(path); err == nil && len(b) > 0 && string(b[:len(b)-1]) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("set sysctl: %w", err)
	}
	return nil
}
