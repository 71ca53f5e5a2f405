package bridge

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/isolators/network/internal/ipam"
)

const (
	// linkPrefix begins the names of the host's ends.
	linkPrefix = "berth"
	// gonePrefix begins the names of those that were unplugged and left to the kernel.
	gonePrefix = linkPrefix + "gone"
)

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
	if err := configure(ctx, ns, r.IfName, addrs); err != nil {
		return pair{}, fmt.Errorf("configure %q in the container: %w", r.IfName, err)
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Index: br.index}}
	for _, link := range []netlink.Link{veth, bridge} {
		if err := waitUp(ctx, link.Attrs().Index); err != nil {
			return pair{}, err
		}
	}
	// Without any cable the bridge's addresses were not valid either.
	if err := waitValid(ctx, &netlink.Handle{}, bridge, addrs); err != nil {
		return pair{}, err
	}
	return pair{host: attrs.Name, hostMAC: veth.Attrs().HardwareAddr, mac: mac}, nil
}

func configure(ctx context.Context, ns *os.File, ifName string, addrs []netip.Prefix) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), syscall.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open a netlink socket in the namespace: %w", err)
	}
	defer h.Close()
	link, err := h.LinkByName(ifName)
	if err != nil {
		return err
	}
	if err := hardenIPv6(ns, ifName, addrs); err != nil {
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
	if err := waitValid(ctx, h, link, addrs); err != nil {
		return err
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

// hardenIPv6 keeps neighbours on the bridge from becoming the container's router by
// an advertisement (CVE-2020-10749): none is accepted, and without an address of
// version 6 the interface does not speak it.
func hardenIPv6(ns *os.File, ifName string, addrs []netip.Prefix) error {
	sysctl := "disable_ipv6"
	value := "1"
	if slices.ContainsFunc(addrs, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		sysctl, value = "accept_ra", "0"
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, in the container's namespace
		err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = writeIPv6Sysctl(ifName, sysctl, value)
		}
		done <- err
	}()
	return <-done
}

// writeIPv6Sysctl sets a sysctl of an interface, if the kernel has IPv6.
func writeIPv6Sysctl(ifName, sysctl, value string) error {
	err := writeSysctl("/proc/sys/net/ipv6/conf/"+ifName+"/"+sysctl, value)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
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
	links, err := listLinks()
	if err != nil {
		return err
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
