package bridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/berth-dev/berth/containerizer"
)

// Type is the plug-in's type in a network configuration.
const Type = "berth-bridge"

// Config is the plug-in's part of a network configuration.
type Config struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	Type       string `json:"type"`
	// Bridge is the interface on the host. It is made when missing.
	Bridge string `json:"bridge"`
	// Subnets give one address each; the bridge has the first of each. At most one a
	// family.
	Subnets []netip.Prefix `json:"subnets"`
	// Masquerade hides the containers' addresses from the outside.
	Masquerade bool `json:"ipMasq,omitempty"`
	// Isolate lets in from outside replies and published ports only.
	Isolate bool `json:"isolate,omitempty"`
	// MTU of the interfaces; 0 is that of the host's default route.
	MTU          int             `json:"mtu,omitempty"`
	Capabilities map[string]bool `json:"capabilities,omitempty"`
	DNS          types.DNS       `json:"dns,omitzero"`
	Runtime      RuntimeConfig   `json:"runtimeConfig,omitzero"`
	PrevResult   json.RawMessage `json:"prevResult,omitempty"`
}

// RuntimeConfig are the capability arguments (CNI conventions, "Dynamic Plugin
// specific Fields").
type RuntimeConfig struct {
	PortMappings []PortMapping `json:"portMappings,omitempty"`
	IPs          []string      `json:"ips,omitempty"`
	MAC          string        `json:"mac,omitempty"`
}

// PortMapping is one of the capability portMappings.
type PortMapping struct {
	HostPort      uint16 `json:"hostPort"`
	ContainerPort uint16 `json:"containerPort"`
	Protocol      string `json:"protocol,omitempty"`
	HostIP        string `json:"hostIP,omitempty"`
}

func (m PortMapping) port() containerizer.PortMapping {
	return containerizer.PortMapping{
		Protocol: containerizer.Protocol(strings.ToLower(m.Protocol)), ContainerPort: m.ContainerPort,
		HostPort: m.HostPort, HostIP: m.HostIP,
	}
}

// parse reads and checks a configuration.
func parse(stdin []byte) (*Config, error) {
	var c Config
	if err := json.Unmarshal(stdin, &c); err != nil {
		return nil, fmt.Errorf("read the configuration of %s: %w: %w", Type, err, containerizer.ErrInvalid)
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("network %q, plug-in %s: %w: %w", c.Name, Type, err, containerizer.ErrInvalid)
	}
	return &c, nil
}

func (c *Config) check() error {
	if err := utils.ValidateNetworkName(c.Name); err != nil { // it becomes a folder
		return fmt.Errorf("%q is no name of a network", c.Name)
	}
	if c.Bridge == "" || len(c.Bridge) > 15 || strings.ContainsAny(c.Bridge, "/ :\t\n") || c.Bridge == "." || c.Bridge == ".." {
		return fmt.Errorf("%q is no interface name for \"bridge\"", c.Bridge)
	}
	if c.MTU != 0 && (c.MTU < 68 || c.MTU > 65535) {
		return fmt.Errorf("\"mtu\" is %d", c.MTU)
	}
	if _, err := version.GreaterThanOrEqualTo(c.CNIVersion, "0.4.0"); err != nil {
		return fmt.Errorf("\"cniVersion\": %w", err)
	}
	if err := c.checkSubnets(); err != nil {
		return err
	}
	return c.Runtime.check()
}

func (c *Config) checkSubnets() error {
	if len(c.Subnets) == 0 {
		return errors.New("\"subnets\" is empty")
	}
	families := map[bool]bool{}
	for _, s := range c.Subnets {
		if !s.IsValid() || s.Addr().Is4In6() || s.Bits() > s.Addr().BitLen()-2 {
			return fmt.Errorf("subnet %q has no room for a bridge and a container", s)
		}
		if families[s.Addr().Is4()] {
			return fmt.Errorf("two subnets of the same family in %v", c.Subnets)
		}
		families[s.Addr().Is4()] = true
	}
	return nil
}

func (r *RuntimeConfig) check() error {
	for _, ip := range r.IPs {
		if _, err := parseAddress(ip); err != nil {
			return err
		}
	}
	if r.MAC == "" {
		return nil
	}
	if mac, err := net.ParseMAC(r.MAC); err != nil || len(mac) != 6 || mac[0]&1 != 0 {
		return fmt.Errorf("%q is no hardware address of one interface", r.MAC)
	}
	return nil
}

// parseAddress takes an address with or without the length of its prefix.
func parseAddress(s string) (netip.Addr, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Addr(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, fmt.Errorf("%q is no address", s)
	}
	return a, nil
}

// Request is one call of the plug-in.
type Request struct {
	ContainerID string // CNI_CONTAINERID
	NetNS       string // CNI_NETNS; may be empty for DEL
	IfName      string // CNI_IFNAME
	Config      []byte // standard input
}
