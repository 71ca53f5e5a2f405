package bridge

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

const fallbackMTU = 1500

// defaultMTU is the MTU of the interface of the host's default route, so that no
// packet of a container is too large for the way out.
func defaultMTU() int {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: nil}, netlink.RT_FILTER_DST)
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

// uses lists where the host's routes lead, but for default routes and those of
// the interface except.
func uses(except string) ([]use, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var out []use
	for _, r := range routes {
		if r.Dst == nil || names[r.LinkIndex] == except || r.Type == unix.RTN_MULTICAST {
			continue
		}
		addr, ok := netip.AddrFromSlice(r.Dst.IP)
		ones, _ := r.Dst.Mask.Size()
		if !ok || ones == 0 {
			continue
		}
		out = append(out, use{netip.PrefixFrom(addr.Unmap(), ones), fmt.Sprintf("a route of interface %q", names[r.LinkIndex])})
	}
	return out, nil
}

// checkFree is an error when the host uses part of subnet by other interfaces
// than bridge.
func checkFree(subnet netip.Prefix, bridge string) error {
	used, err := uses(bridge)
	if err != nil {
		return err
	}
	for _, u := range used {
		if u.prefix.Overlaps(subnet) {
			return fmt.Errorf("subnet %s overlaps %s, %s: %w", subnet, u.prefix, u.by, containerizer.ErrFailedPrecondition)
		}
	}
	return nil
}

// ChooseSubnet returns the first candidate that overlaps neither what the host
// routes nor any of avoid.
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

// Exclusive runs f while nobody else on the machine sets up a bridge.
func Exclusive(ctx context.Context, f func() error) error {
	unlock, err := lockNamespace(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return f()
}

// Exists says whether the host has an interface of that name.
func Exists(name string) bool {
	_, err := netlink.LinkByName(name)
	return err == nil
}
