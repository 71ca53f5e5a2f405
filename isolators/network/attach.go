package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/network/internal/bridge"
)

// pluginTimeout bounds one network's plug-ins; a hung one must not hold a
// container for ever.
const pluginTimeout = time.Minute

// prepareNetworks finds the container's networks and takes its ports, and notes
// both; nothing is joined yet.
func (i *Isolator) prepareNetworks(ctx context.Context, c *containerizer.Container) error {
	wanted, err := i.wanted(&c.Spec.Network)
	if err != nil {
		return err
	}
	rec := &record{ID: c.ID}
	lists := make([]*libcni.NetworkConfigList, 0, len(wanted))
	for _, w := range wanted {
		list, err := i.find(ctx, w.Name)
		if err != nil {
			return err
		}
		if err := i.checkPlugins(list); err != nil {
			return err
		}
		lists = append(lists, list)
		rec.Networks = append(rec.Networks, newAttachment(list, w, &c.Spec.Network))
	}
	publisher, err := choosePublisher(lists, c.Spec.Network.Ports)
	if err != nil {
		return err
	}
	if err := checkPublisher(lists[publisher], c.Spec.Network.Ports); err != nil {
		return err
	}
	if err := i.takePorts(c, rec); err != nil {
		return err
	}
	if len(rec.Ports) > 0 {
		rec.Networks[publisher].Capabilities["portMappings"] = portMappings(rec.Ports)
	}
	for _, a := range rec.Networks {
		if err := c.Ledger.Acquire(ledgerNetwork, a.Name+"/"+a.IfName); err != nil {
			return err
		}
	}
	return i.save(rec)
}

// wanted are the networks of n with all names filled in.
func (i *Isolator) wanted(n *containerizer.Network) ([]containerizer.NetworkAttachment, error) {
	wanted := slices.Clone(n.Networks)
	if len(wanted) == 0 {
		wanted = []containerizer.NetworkAttachment{{}}
	}
	taken := map[string]bool{}
	for _, w := range wanted {
		if w.IfName != "" && taken[w.IfName] {
			return nil, fmt.Errorf("two networks want interface %q: %w", w.IfName, containerizer.ErrInvalid)
		}
		taken[w.IfName] = true
	}
	for k := range wanted {
		if wanted[k].Name == "" {
			wanted[k].Name = i.opts.DefaultNetwork
		}
		if wanted[k].IfName == "" {
			wanted[k].IfName = freeIfName(taken)
		}
	}
	return wanted, nil
}

// freeIfName returns the first of eth0, eth1 … that is not taken, and takes it.
func freeIfName(taken map[string]bool) string {
	for k := 0; ; k++ {
		if name := fmt.Sprintf("eth%d", k); !taken[name] {
			taken[name] = true
			return name
		}
	}
}

// newAttachment says how w is asked of the plug-ins of list: by capabilities
// where one takes them, else by arguments as host-local and others read them.
func newAttachment(list *libcni.NetworkConfigList, w containerizer.NetworkAttachment, n *containerizer.Network) attachment {
	a := attachment{Name: list.Name, IfName: w.IfName, Config: list.Bytes, Aliases: w.Aliases, Capabilities: map[string]any{}}
	a.Args = append(a.Args, [2]string{"IgnoreUnknown", "1"})
	for k, v := range w.Args {
		a.Args = append(a.Args, [2]string{k, v})
	}
	if len(n.DNSServers)+len(n.DNSSearch)+len(n.DNSOptions) > 0 {
		a.Capabilities["dns"] = map[string][]string{"servers": n.DNSServers, "searches": n.DNSSearch, "options": n.DNSOptions}
	}
	maps.Copy(a.Capabilities, w.Capability)
	if len(w.IPs) > 0 {
		a.Capabilities["ips"] = w.IPs
		if !takes(list, "ips") {
			addr, _, _ := strings.Cut(w.IPs[0], "/")
			a.Args = append(a.Args, [2]string{"IP", addr})
		}
	}
	if w.MAC != "" {
		a.Capabilities["mac"] = w.MAC
		if !takes(list, "mac") {
			a.Args = append(a.Args, [2]string{"MAC", w.MAC})
		}
	}
	if len(w.Aliases) > 0 {
		a.Capabilities["aliases"] = map[string][]string{list.Name: w.Aliases}
	}
	return a
}

// choosePublisher returns the first network that publishes ports.
func choosePublisher(lists []*libcni.NetworkConfigList, ports []containerizer.PortMapping) (int, error) {
	if len(ports) == 0 {
		return 0, nil
	}
	var names []string
	for k, list := range lists {
		if takes(list, "portMappings") {
			return k, nil
		}
		names = append(names, list.Name)
	}
	return 0, fmt.Errorf("publish ports: no plug-in of network %s takes the capability \"portMappings\" (portmap does): %w", strings.Join(names, ", "), containerizer.ErrInvalid)
}

// checkPublisher refuses what our own plug-in cannot publish; others say so at ADD.
func checkPublisher(list *libcni.NetworkConfigList, ports []containerizer.PortMapping) error {
	for _, p := range list.Plugins {
		if p.Network.Type == bridge.Type {
			return bridge.CheckPorts(list.Name, p.Bytes, ports)
		}
	}
	return nil
}

func (i *Isolator) takePorts(c *containerizer.Container, rec *record) error {
	ports := make([]containerizer.PortMapping, len(c.Spec.Network.Ports))
	for k, p := range c.Spec.Network.Ports {
		p.Protocol = protocolOf(p)
		if addr, err := netip.ParseAddr(p.HostIP); err == nil {
			p.HostIP = addr.Unmap().String()
		}
		ports[k] = p
	}
	var err error
	rec.Ports, err = i.ports.Reserve(cniID(c.ID), ports, func(name string) error { return c.Ledger.Acquire(ledgerPort, name) })
	return err
}

// portMappings is the capability argument (CNI conventions).
func portMappings(ports []containerizer.PortMapping) []map[string]any {
	out := make([]map[string]any, len(ports))
	for k, p := range ports {
		out[k] = map[string]any{"hostPort": p.HostPort, "containerPort": p.ContainerPort, "protocol": string(p.Protocol)}
		if p.HostIP != "" {
			out[k]["hostIP"] = p.HostIP
		}
	}
	return out
}

// Isolate joins the networks and completes the files that name addresses. Without
// a process the namespace is the one that c.NamespacePath opens.
func (i *Isolator) Isolate(ctx context.Context, c *containerizer.Container, pid int) error {
	m, err := modeOf(c)
	if err != nil {
		return err
	}
	if m.kind != kindPrivate || c.Spec.Network.None {
		return nil
	}
	netns := fmt.Sprintf("/proc/%d/ns/net", pid)
	if pid == 0 {
		if netns = namespacePath(c); netns == "" {
			return fmt.Errorf("container %q has no network namespace to attach: %w", c.ID.Short(), containerizer.ErrFailedPrecondition)
		}
	}
	rec, err := i.load(c.ID)
	if err != nil {
		return err
	}
	for k := range rec.Networks {
		err := i.join(ctx, c.ID, &rec.Networks[k], netns)
		if errors.Is(err, bridge.ErrOverlap) && rec.Networks[k].Name == DefaultNetwork {
			err = i.rejoin(ctx, rec, k, netns)
		}
		if err != nil {
			return err
		}
	}
	if err := i.save(rec); err != nil {
		return err
	}
	return i.completeFiles(c, m, rec)
}

// join runs ADD for one network and notes the result.
func (i *Isolator) join(ctx context.Context, id containerizer.ContainerID, a *attachment, netns string) error {
	ctx, cancel := context.WithTimeout(ctx, pluginTimeout)
	defer cancel()
	list, err := libcni.NetworkConfFromBytes(a.Config)
	if err != nil {
		return fmt.Errorf("read the configuration of network %q: %w: %w", a.Name, err, containerizer.ErrDataCorrupt)
	}
	raw, err := i.cni.AddNetworkList(ctx, list, a.runtime(id, netns))
	if err != nil {
		return fmt.Errorf("join network %q: %w", a.Name, err)
	}
	result, err := types100.NewResultFromResult(raw)
	if err != nil {
		return fmt.Errorf("read the result of network %q: %w: %w", a.Name, err, containerizer.ErrUnsupported)
	}
	a.Status, a.DNS = status(a, result), result.DNS
	return a.checkAddresses()
}

// rejoin joins the default network k of rec after its bridge went, and its subnet to
// somebody else, since Prepare: another is chosen and noted.
func (i *Isolator) rejoin(ctx context.Context, rec *record, k int, netns string) error {
	list, err := i.find(ctx, DefaultNetwork)
	if err != nil {
		return err
	}
	rec.Networks[k].Config = list.Bytes
	if err := i.save(rec); err != nil {
		return err
	}
	return i.join(ctx, rec.ID, &rec.Networks[k], netns)
}

// runtime is what the plug-ins are told of the container.
func (a *attachment) runtime(id containerizer.ContainerID, netns string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: cniID(id), NetNS: netns, IfName: a.IfName, Args: a.Args, CapabilityArgs: a.Capabilities}
}

// checkAddresses is an error when the network gave other addresses than asked for.
func (a *attachment) checkAddresses() error {
	wanted, _ := a.Capabilities["ips"].([]any) // as read from the record
	for _, w := range wanted {
		addr, _, _ := strings.Cut(fmt.Sprint(w), "/")
		found := false
		for _, ip := range a.Status.IPs {
			got, _, _ := strings.Cut(ip, "/")
			found = found || got == addr
		}
		if !found {
			return fmt.Errorf("network %q gave %v, not the address %s asked for: %w", a.Name, a.Status.IPs, addr, containerizer.ErrUnsupported)
		}
	}
	return nil
}

// status translates a result: the interface inside the container and its addresses.
func status(a *attachment, result *types100.Result) containerizer.NetworkStatus {
	s := containerizer.NetworkStatus{Name: a.Name, Interface: a.IfName, IPs: []string{}}
	for _, in := range result.Interfaces {
		if in.Sandbox != "" && in.Name == a.IfName {
			s.MAC = in.Mac
		}
	}
	for _, ip := range result.IPs {
		s.IPs = append(s.IPs, ip.Address.String())
		if ip.Gateway != nil {
			s.Gateways = append(s.Gateways, ip.Gateway.String())
		}
	}
	return s
}

// completeFiles writes hosts and resolv.conf again, in place, now that addresses
// and the networks' DNS servers are known.
func (i *Isolator) completeFiles(c *containerizer.Container, m mode, rec *record) error {
	for _, h := range c.Spec.Network.ExtraHosts {
		if _, addr, _ := splitHost(h); addr == hostGateway && rec.gateway() == "" {
			return fmt.Errorf("host entry %q: none of the container's networks has a gateway: %w", h, containerizer.ErrUnsupported)
		}
	}
	if !c.Spec.Network.NoHosts {
		if err := writeFile(c, filepath.Join(i.folder(c.ID), fileHosts), i.hosts(c, m, rec)); err != nil {
			return err
		}
	}
	if c.Spec.Network.NoResolvConf || len(rec.dns().Nameservers) == 0 {
		return nil
	}
	resolv, err := i.resolvConf(c, m, rec)
	if err != nil {
		return err
	}
	return writeFile(c, filepath.Join(i.folder(c.ID), fileResolvConf), resolv)
}
