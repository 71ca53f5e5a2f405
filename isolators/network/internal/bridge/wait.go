package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// settle bounds the wait for a new cable to carry packets.
const settle = 2 * time.Second

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
		have, err := h.AddrList(link, netlink.FAMILY_V6)
		if err != nil {
			return false, fmt.Errorf("list its addresses: %w", err)
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
