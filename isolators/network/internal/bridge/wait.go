package bridge

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// settle bounds the wait for a new cable to carry packets. It takes milliseconds, but
// seconds where a busy kernel makes many cables.
const settle = 20 * time.Second

// waitUp waits for the kernel to notice that a cable is plugged in at both ends,
// which it does in the background: a packet sent before is lost, and a connection
// begun by it a second late.
func waitUp(ctx context.Context, index int) error {
	return poll(ctx, func() (bool, error) {
		link, err := netlink.LinkByIndex(index)
		if err != nil {
			return false, fmt.Errorf("look up interface %d: %w", index, err)
		}
		if link.Attrs().OperState == netlink.OperUp {
			return true, nil
		}
		return false, fmt.Errorf("interface %q is %s, not up", link.Attrs().Name, link.Attrs().OperState)
	})
}

// waitValid waits until addresses of version 6 answer, which even without
// detection of duplicates is a matter of background work.
func waitValid(ctx context.Context, h *netlink.Handle, link netlink.Link, addrs []netip.Prefix) error {
	if !slices.ContainsFunc(addrs, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		return nil
	}
	return poll(ctx, func() (bool, error) {
		have, err := listAddresses(h, link, netlink.FAMILY_V6)
		if err != nil {
			return false, err
		}
		for _, a := range have {
			if a.Flags&unix.IFA_F_TENTATIVE != 0 && a.Flags&unix.IFA_F_NODAD != 0 {
				return false, fmt.Errorf("address %s stays tentative", a.IPNet)
			}
		}
		return true, nil
	})
}

// poll asks until done, ever more slowly, for as long as settle; what ask says
// last is the error.
func poll(ctx context.Context, ask func() (done bool, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	for pause := 50 * time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		done, err := ask()
		if done {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w: %w: %w", err, ctx.Err(), containerizer.ErrUnavailable)
		}
	}
}
