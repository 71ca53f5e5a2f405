package bridge

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/network/internal/ipam"
)

// bridgeLink is the bridge as it stands.
type bridgeLink struct {
	index int
	mac   net.HardwareAddr
	mtu   int
}

// ensureBridge returns the bridge of c with its addresses, up; it is made when
// missing.
func ensureBridge(ctx context.Context, c *Config) (bridgeLink, error) {
	br, ready, err := findBridge(c)
	if err != nil || ready {
		return br, err
	}
	err = Exclusive(ctx, func() error {
		br, err = ensureLocked(c)
		return err
	})
	return br, err
}

// Ensure makes the bridge of a configuration when it is missing. ErrOverlap when
// the host uses part of its subnets.
//
// Preconditions: the caller is in Exclusive.
func Ensure(config []byte) error {
	c, err := parse(config)
	if err != nil {
		return err
	}
	_, err = ensureLocked(c)
	return err
}

// ensureLocked is ensureBridge for the holder of the lock.
func ensureLocked(c *Config) (bridgeLink, error) {
	br, ready, err := findBridge(c)
	if err != nil || ready {
		return br, err
	}
	if err := makeBridge(c); err != nil {
		return bridgeLink{}, fmt.Errorf("network %q: make bridge %q: %w", c.Name, c.Bridge, err)
	}
	br, ready, err = findBridge(c)
	if err == nil && !ready {
		err = fmt.Errorf("network %q: bridge %q was taken down or lost its addresses at once: %w", c.Name, c.Bridge, containerizer.ErrUnavailable)
	}
	return br, err
}

// findBridge reads the bridge; it is not ready when it, an address or its being
// up is missing.
func findBridge(c *Config) (br bridgeLink, ready bool, err error) {
	link, err := netlink.LinkByName(c.Bridge)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return br, false, nil
	}
	if err != nil {
		return br, false, fmt.Errorf("look up interface %q: %w", c.Bridge, err)
	}
	if link.Type() != "bridge" {
		return br, false, fmt.Errorf("network %q: interface %q is a %s, not a bridge: %w", c.Name, c.Bridge, link.Type(), containerizer.ErrFailedPrecondition)
	}
	a := link.Attrs()
	br = bridgeLink{index: a.Index, mac: a.HardwareAddr, mtu: a.MTU}
	addrs, err := listAddresses(&netlink.Handle{}, link, netlink.FAMILY_ALL)
	if err != nil {
		return br, false, fmt.Errorf("read bridge %q: %w", c.Bridge, err)
	}
	for _, s := range c.Subnets {
		if !hasAddress(addrs, netip.PrefixFrom(ipam.Gateway(s), s.Bits())) {
			return br, false, nil
		}
	}
	return br, a.Flags&net.FlagUp != 0, nil
}

func hasAddress(addrs []netlink.Addr, want netip.Prefix) bool {
	for _, a := range addrs {
		if got, ok := netip.AddrFromSlice(a.IP); ok && got.Unmap() == want.Addr() {
			ones, _ := a.Mask.Size()
			return ones == want.Bits()
		}
	}
	return false
}

// makeBridge makes or completes the bridge. Its hardware address is set, because
// a bridge without one takes that of a port, and udev changes it.
func makeBridge(c *Config) error {
	for _, s := range c.Subnets {
		if err := checkFree(s, c.Bridge); err != nil {
			return err
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = c.Bridge, c.MTU
	if attrs.MTU == 0 {
		attrs.MTU = defaultMTU()
	}
	attrs.HardwareAddr = make(net.HardwareAddr, 6)
	_, _ = rand.Read(attrs.HardwareAddr) // never fails (crypto/rand, Go 1.24)
	attrs.HardwareAddr[0], attrs.HardwareAddr[1] = 0x0a, 0x59
	link := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(link); err != nil && !errors.Is(err, syscall.EEXIST) {
		return err
	}
	found, err := netlink.LinkByName(c.Bridge)
	if err != nil {
		return err
	}
	for _, s := range c.Subnets {
		addr := netlinkAddr(netip.PrefixFrom(ipam.Gateway(s), s.Bits()))
		if err := netlink.AddrReplace(found, addr); err != nil {
			return fmt.Errorf("add address %s: %w", addr, err)
		}
		path := "/proc/sys/net/ipv4/ip_forward"
		if s.Addr().Is6() {
			path = "/proc/sys/net/ipv6/conf/all/forwarding"
		}
		if err := writeSysctl(path, "1"); err != nil {
			return err
		}
	}
	if err := writeIPv6Sysctl(c.Bridge, "accept_ra", "0"); err != nil { // nor are containers the host's routers
		return err
	}
	return netlink.LinkSetUp(found)
}

func netlinkAddr(p netip.Prefix) *netlink.Addr {
	bits := p.Addr().BitLen()
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), bits)}}
	if p.Addr().Is6() {
		a.Flags = syscall.IFA_F_NODAD // it is ours alone; detection would take a second
	}
	return a
}

// openLoopback lets the host reach published ports by its loopback addresses. The
// rules of package nat keep packets from the bridge off them (CVE-2020-8558).
func openLoopback(bridge string) error {
	return writeSysctl("/proc/sys/net/ipv4/conf/"+bridge+"/route_localnet", "1")
}
