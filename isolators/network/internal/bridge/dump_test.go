package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/network/internal/nettest"
)

func TestDump(t *testing.T) {
	other := errors.New("other")
	for _, c := range []struct {
		name        string
		interrupted int
		after       error
		class       error
		calls       int
	}{
		{"at once", 0, nil, nil, 1},
		{"some time", 9, nil, nil, 10},
		{"never", dumpAttempts, nil, containerizer.ErrUnavailable, dumpAttempts},
		{"another error", 1, other, other, 2},
	} {
		calls := 0
		got, err := dump(func() (int, error) {
			if calls++; calls <= c.interrupted {
				return -1, fmt.Errorf("read: %w", netlink.ErrDumpInterrupted)
			}
			return 7, c.after
		})
		if calls != c.calls || !errors.Is(err, c.class) || (err == nil && got != 7) {
			t.Errorf("%s: dump() = %d, %v after %d calls; want %v after %d", c.name, got, err, calls, c.class, c.calls)
		}
	}
}

// TestInterruptedDumps reads all lists while addresses, routes and interfaces come
// and go; what is there all the time must be in each.
func TestInterruptedDumps(t *testing.T) {
	nettest.Need(t)
	const steady = 400 // more than one message of each list has room for
	nettest.Run(t, "ip", "link", "add", "dump0", "type", "bridge")
	nettest.Run(t, "ip", "link", "set", "dump0", "up")
	link, err := netlink.LinkByName("dump0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netlink.LinkDel(link); err != nil {
			t.Error(err)
		}
	})
	address := func(second, k int) *netlink.Addr {
		return netlinkAddr(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(second), byte(k / 100), byte(k%100 + 1)}), 32))
	}
	for k := range steady {
		if err := netlink.AddrAdd(link, address(140, k)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for k := 0; ctx.Err() == nil; k = (k + 1) % steady {
			if err := errors.Join(netlink.AddrAdd(link, address(141, k)), netlink.AddrDel(link, address(141, k))); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer wg.Wait()
	defer stop()

	const enough, most = 30, 2000 // rounds; a slow machine needs more until one is interrupted
	interrupted := 0
	for round := 0; round < enough || (interrupted == 0 && round < most); round++ {
		if _, err := netlink.AddrList(link, netlink.FAMILY_ALL); errors.Is(err, netlink.ErrDumpInterrupted) {
			interrupted++
		}
		addrs, err := listAddresses(&netlink.Handle{}, link, netlink.FAMILY_V4)
		if err != nil || len(addrs) < steady {
			t.Fatalf("%d addresses, %v; want at least %d", len(addrs), err, steady)
		}
		if used, err := uses(""); err != nil || len(used) < 2*steady { // an address and a route each
			t.Fatalf("%d ranges in use, %v; want at least %d", len(used), err, 2*steady)
		}
	}
	if interrupted == 0 {
		t.Error("no list changed while it was read: the test shows nothing")
	}
}
