package bridge

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/berth-dev/berth/containerizer"
)

// dumpAttempts bounds how often a list is read. The pauses between add up to about
// a quarter of a second.
const dumpAttempts = 64

// dump reads a list of the kernel's with list, again as long as it changed while it
// was read (NLM_F_DUMP_INTR): entries may be missing from one that did. On a machine
// where many containers start at once that is usual.
func dump[T any](list func() (T, error)) (T, error) {
	for attempt := 1; ; attempt++ {
		result, err := list()
		if err == nil || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return result, err
		}
		if attempt == dumpAttempts {
			return result, fmt.Errorf("it changed each of %d times it was read: %w: %w", attempt, err, containerizer.ErrUnavailable)
		}
		time.Sleep(min(time.Duration(attempt)*100*time.Microsecond, 5*time.Millisecond))
	}
}

// listLinks are all interfaces.
func listLinks() ([]netlink.Link, error) {
	links, err := dump(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	return links, nil
}

// listAddresses are those of link as h sees it, of all interfaces without one.
func listAddresses(h *netlink.Handle, link netlink.Link, family int) ([]netlink.Addr, error) {
	addrs, err := dump(func() ([]netlink.Addr, error) { return h.AddrList(link, family) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return addrs, nil
}

// listRoutes are those that fit filter in the fields of mask.
func listRoutes(family int, filter *netlink.Route, mask uint64) ([]netlink.Route, error) {
	routes, err := dump(func() ([]netlink.Route, error) { return netlink.RouteListFiltered(family, filter, mask) })
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return routes, nil
}
