package network

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"

	"github.com/containernetworking/cni/libcni"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/network/internal/bridge"
)

// A network namespace goes with the last process in it; nobody pins it. Plug-ins
// may be told so (empty CNI_NETNS), but then bridge and its like give back the
// address and leave their rules, which they find by the addresses of the
// interface in the namespace. So they are given a stand-in: a new namespace with
// an interface of the same name and addresses, which they take down.

// standIn returns a namespace like the one that a was attached to, by a
// descriptor to close and a path.
func standIn(a *attachment) (*os.File, string, error) {
	ns, err := newNamespace()
	if err != nil {
		return nil, "", fmt.Errorf("make a network namespace: %w", err)
	}
	if err := furnish(ns, a.Status); err != nil {
		return nil, "", errors.Join(fmt.Errorf("furnish a network namespace: %w", err), ns.Close())
	}
	return ns, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd()), nil
}

func newNamespace() (*os.File, error) {
	type result struct {
		file *os.File
		err  error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- result{nil, err}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		made <- result{f, err}
	}()
	r := <-made
	return r.file, r.err
}

func furnish(ns *os.File, s containerizer.NetworkStatus) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), syscall.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = s.Interface
	link := &netlink.Bridge{LinkAttrs: attrs} // any kind will do; this one is there where bridge was
	if err := h.LinkAdd(link); err != nil {
		return err
	}
	for _, ip := range s.IPs {
		addr, err := netlink.ParseAddr(ip)
		if err != nil {
			return err
		}
		if err := h.AddrAdd(link, addr); err != nil {
			return err
		}
	}
	return nil
}

// needsStandIn says whether leaving a network takes one: the namespace is gone,
// the container had an interface, and not all plug-ins are ours.
func needsStandIn(list *libcni.NetworkConfigList, a *attachment, netns string) bool {
	return netns == "" && len(a.Status.IPs) > 0 && slices.ContainsFunc(list.Plugins, func(p *libcni.PluginConfig) bool {
		return p.Network.Type != bridge.Type
	})
}
