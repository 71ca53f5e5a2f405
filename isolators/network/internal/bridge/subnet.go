package bridge

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

const fallbackMTU = 1500

// defaultMTU is the MTU of the interface of the host's default route, so that no
// packet of a container is too large for the way out.
func defaultMTU() int {
	routes, err := listRoutes(netlink.FAMILY_V4, &netlink.Route{Dst: nil}, netlink.RT_FILTER_DST)
	if err != nil {
		return fallbackMTU
	}
	for _, r := range routes {
		if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
			return link.Attrs().MTU
		}
	}
	return fallbackMTU
}

// use is an address range that the host uses, and by what.
type use struct {
	prefix netip.Prefix
	by     string
}

// uses lists where the host's routes lead, but for default routes, and what its
// interfaces have addresses of, which have no routes while they are down; without
// those of the interface except.
func uses(except string) ([]use, error) {
	links, err := listLinks()
	if err != nil {
		return nil, err
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	routes, err := listRoutes(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, err
	}
	var out []use
	for _, r := range routes {
		if r.Dst == nil || names[r.LinkIndex] == except || r.Type == unix.RTN_MULTICAST {
			continue
		}
		if p, ok := prefixOf(r.Dst); ok {
			out = append(out, use{p, fmt.Sprintf("a route of interface %q", names[r.LinkIndex])})
		}
	}
	addrs, err := listAddresses(&netlink.Handle{}, nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok && names[a.LinkIndex] != except {
			out = append(out, use{p, fmt.Sprintf("an address of interface %q", names[a.LinkIndex])})
		}
	}
	return out, nil
}

// prefixOf is n, unless it is everything.
func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones), ok && ones > 0
}

// ErrOverlap is a subnet that the host uses otherwise.
var ErrOverlap = fmt.Errorf("the host uses part of the subnet: %w", containerizer.ErrFailedPrecondition)

// checkFree is ErrOverlap when the host uses part of subnet by other interfaces
// than bridge.
func checkFree(subnet netip.Prefix, bridge string) error {
	used, err := uses(bridge)
	if err != nil {
		return err
	}
	for _, u := range used {
		if u.prefix.Overlaps(subnet) {
			return fmt.Errorf("subnet %s overlaps %s, %s: %w", subnet, u.prefix, u.by, ErrOverlap)
		}
	}
	return nil
}

// ChooseSubnet returns the first candidate that overlaps neither what the host
// uses nor any of avoid.
//
// Preconditions: the caller is in Exclusive until the bridge exists (Ensure), or
// another node may choose the same.
func ChooseSubnet(candidates []netip.Prefix, bridge string, avoid []netip.Addr) (netip.Prefix, error) {
	used, err := uses(bridge)
	if err != nil {
		return netip.Prefix{}, err
	}
	for _, a := range avoid {
		used = append(used, use{prefix: netip.PrefixFrom(a, a.BitLen())})
	}
next:
	for _, c := range candidates {
		for _, u := range used {
			if u.prefix.Overlaps(c) {
				continue next
			}
		}
		return c, nil
	}
	return netip.Prefix{}, fmt.Errorf("choose a subnet: the host uses part of each of the %d candidates: %w", len(candidates), containerizer.ErrResourceExhausted)
}

// Exists says whether the host has an interface of that name.
func Exists(name string) bool {
	_, err := netlink.LinkByName(name)
	return err == nil
}
