package bridge

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/berth-dev/berth/containerizer"
)

// CheckPorts refuses, before anything is made, ports of host addresses that a
// network of this configuration cannot publish.
func CheckPorts(network string, config []byte, ports []containerizer.PortMapping) error {
	var c Config
	if err := json.Unmarshal(config, &c); err != nil {
		return fmt.Errorf("read the configuration of %s: %w: %w", Type, err, containerizer.ErrInvalid)
	}
	for _, p := range ports {
		if p.HostIP == "" {
			continue // every address
		}
		host, err := netip.ParseAddr(p.HostIP)
		if err != nil {
			return fmt.Errorf("publish container port %d: host address %q is none: %w", p.ContainerPort, p.HostIP, containerizer.ErrInvalid)
		}
		host = host.Unmap()
		if host.Is6() && host.IsLoopback() {
			return fmt.Errorf("publish container port %d on [%s]: the kernel cannot translate it; 127.0.0.1 can be published: %w", p.ContainerPort, host, containerizer.ErrInvalid)
		}
		if !slices.ContainsFunc(c.Subnets, func(s netip.Prefix) bool { return s.Addr().Is4() == host.Is4() }) {
			return fmt.Errorf("publish container port %d on %s: network %q has no subnet of that family (%v): %w", p.ContainerPort, host, network, c.Subnets, containerizer.ErrInvalid)
		}
	}
	return nil
}
