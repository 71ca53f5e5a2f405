package bridge

import (
	"syscall"

	"github.com/vishvananda/netlink"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/network/internal/nat"
)

// forgetFlows makes the kernel forget flows to ports that were just published:
// rules are asked for new flows only, and a client of UDP that goes on sending
// from one port never begins a new one. A flow that stays ends by itself within
// minutes, so a kernel that cannot forget is no error.
func forgetFlows(mappings []nat.Mapping) {
	for _, m := range mappings {
		if m.Protocol != containerizer.ProtocolUDP {
			continue
		}
		family := netlink.InetFamily(syscall.AF_INET)
		if m.Host.Addr().Is6() {
			family = syscall.AF_INET6
		}
		filter := &netlink.ConntrackFilter{}
		if filter.AddProtocol(syscall.IPPROTO_UDP) != nil || filter.AddPort(netlink.ConntrackOrigDstPort, m.Host.Port()) != nil {
			continue
		}
		_, _ = dump(func() (uint, error) { // see above
			return netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, filter)
		})
	}
}
