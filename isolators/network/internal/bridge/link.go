package bridge

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/network/internal/ipam"
)

type cniRoute = types.Route

const (
	// linkPrefix begins the names of the host's ends.
	linkPrefix = "berth"
	// gonePrefix begins the names of those that were unplugged and left to the kernel.
	gonePrefix = linkPrefix + "gone"
	// settle bounds the wait for a new cable to carry packets.
	settle = 2 * time.Second
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
	unlock, err := lockNamespace(ctx)
	if err != nil {
		return bridgeLink{}, err
	}
	defer unlock()
	if br, ready, err := findBridge(c); err != nil || ready {
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
	addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return br, false, fmt.Errorf("list addresses of %q: %w", c.Bridge, err)
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

// pair is a virtual cable.
type pair struct {
	host         string
	hostMAC, mac net.HardwareAddr
}

// hostName is the name of the host's end, the same each time.
func hostName(r Request) string {
	sum := sha256.Sum256([]byte(r.ContainerID + "\x00" + r.IfName))
	return linkPrefix + hex.EncodeToString(sum[:5])
}

// connect lays a cable between the bridge and the container's namespace and
// configures the container's end.
func connect(ctx context.Context, br bridgeLink, r Request, mac net.HardwareAddr, addrs []netip.Prefix) (pair, error) {
	ns, err := os.Open(r.NetNS)
	if err != nil {
		return pair{}, fmt.Errorf("open network namespace: %w", err)
	}
	defer func() { _ = ns.Close() }() // read only
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex, attrs.Flags = hostName(r), br.mtu, br.index, net.FlagUp
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: r.IfName, PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(int(ns.Fd()))}
	err = netlink.LinkAdd(veth)
	if errors.Is(err, syscall.EEXIST) { // of an ADD that was cut off
		if err := disconnect(Request{ContainerID: r.ContainerID, IfName: r.IfName}); err != nil {
			return pair{}, err
		}
		err = netlink.LinkAdd(veth)
	}
	if err != nil {
		return pair{}, fmt.Errorf("make interfaces %q and %q: %w", attrs.Name, r.IfName, err)
	}
	// A container may reach itself by its published port.
	if err := netlink.LinkSetHairpin(veth, true); err != nil {
		return pair{}, fmt.Errorf("let %q send back: %w", attrs.Name, err)
	}
	if err := configure(ns, r.IfName, addrs); err != nil {
		return pair{}, fmt.Errorf("configure %q in the container: %w", r.IfName, err)
	}
	for _, index := range []int{veth.Attrs().Index, br.index} {
		if err := waitUp(ctx, index); err != nil {
			return pair{}, err
		}
	}
	return pair{host: attrs.Name, hostMAC: veth.Attrs().HardwareAddr, mac: mac}, nil
}

// waitUp waits for the kernel to notice that a cable is plugged in at both ends,
// which it does in the background: a packet sent before is lost, and a connection
// begun by it a second late.
func waitUp(ctx context.Context, index int) error {
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		link, err := netlink.LinkByIndex(index)
		if err != nil {
			return fmt.Errorf("look up interface %d: %w", index, err)
		}
		if link.Attrs().OperState == netlink.OperUp {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("interface %q is %s and not up: %w: %w", link.Attrs().Name, link.Attrs().OperState, ctx.Err(), containerizer.ErrUnavailable)
		}
	}
}

func configure(ns *os.File, ifName string, addrs []netip.Prefix) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), syscall.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open a netlink socket in the namespace: %w", err)
	}
	defer h.Close()
	link, err := h.LinkByName(ifName)
	if err != nil {
		return err
	}
	for _, p := range addrs {
		if err := h.AddrAdd(link, netlinkAddr(p)); err != nil {
			return fmt.Errorf("add address %s: %w", p, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring it up: %w", err)
	}
	for _, p := range addrs {
		gateway := ipam.Gateway(p.Masked())
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway.AsSlice(), Dst: &net.IPNet{
			IP: make(net.IP, gateway.BitLen()/8), Mask: net.CIDRMask(0, gateway.BitLen()),
		}}
		if err := h.RouteAdd(route); err != nil && !errors.Is(err, syscall.EEXIST) { // of another network: the first one wins
			return fmt.Errorf("add the default route by %s: %w", gateway, err)
		}
	}
	return nil
}

// disconnect removes the cable, if the kernel has not yet. Without a namespace
// given, that is being taken down and the cable goes with it; removing it here
// would only wait for the same (about 15 ms in rcu_barrier). It is unplugged then,
// so that it answers for its address no more.
func disconnect(r Request) error {
	link, err := netlink.LinkByName(hostName(r))
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up interface %q: %w", hostName(r), err)
	}
	if r.NetNS != "" {
		return ignoreGone(netlink.LinkDel(link), "remove", link)
	}
	for _, step := range []func() error{
		func() error { return netlink.LinkSetDown(link) },
		func() error { return netlink.LinkSetNoMaster(link) },
		func() error { return netlink.LinkSetName(link, gonePrefix+rand.Text()[:6]) },
	} {
		if err := ignoreGone(step(), "unplug", link); err != nil {
			return err
		}
	}
	return nil
}

func ignoreGone(err error, what string, link netlink.Link) error {
	if err != nil && !errors.Is(err, syscall.ENODEV) {
		return fmt.Errorf("%s interface %q: %w", what, link.Attrs().Name, err)
	}
	return nil
}

// Sweep removes unplugged host's ends whose namespace somebody still holds open.
func Sweep() error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		if l.Type() == "veth" && strings.HasPrefix(l.Attrs().Name, gonePrefix) {
			err = errors.Join(err, ignoreGone(netlink.LinkDel(l), "remove", l))
		}
	}
	return err
}

func checkPair(r Request) error {
	if _, err := netlink.LinkByName(hostName(r)); err != nil {
		return fmt.Errorf("look up interface %q: %w", hostName(r), err)
	}
	return nil
}

// lockNamespace takes the lock of the host's network namespace, which is a lock on
// its file: all state directories of the machine share its bridges.
func lockNamespace(ctx context.Context) (unlock func(), err error) {
	f, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open the host's network namespace: %w", err)
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil // closing releases the lock
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			break
		}
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
			err = ctx.Err()
		}
		break
	}
	return nil, errors.Join(fmt.Errorf("lock the host's network namespace: %w", err), f.Close())
}
