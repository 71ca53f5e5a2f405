package ipam_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/network/internal/ipam"
	"github.com/berth-dev/berth/isolators/network/internal/nettest"
)

func prefixes(s ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(s))
	for i, p := range s {
		out[i] = netip.MustParsePrefix(p)
	}
	return out
}

func owner(id string) ipam.Owner { return ipam.Owner{ID: id, IfName: "eth0"} }

func reserve(t *testing.T, s *ipam.Store, id string, subnets []netip.Prefix, want ...netip.Addr) string {
	t.Helper()
	got, err := s.Reserve(owner(id), subnets, want)
	if err != nil {
		t.Fatalf("Reserve(%s) = %v", id, err)
	}
	return strings.Trim(fmt.Sprint(got), "[]")
}

func TestGateway(t *testing.T) {
	for subnet, want := range map[string]string{"10.1.2.3/24": "10.1.2.1", "10.0.0.0/30": "10.0.0.1", "fd00::/64": "fd00::1"} {
		if got := ipam.Gateway(netip.MustParsePrefix(subnet)); got.String() != want {
			t.Errorf("Gateway(%s) = %s, want %s", subnet, got, want)
		}
	}
}

func TestReserve(t *testing.T) {
	s := ipam.Open(t.TempDir(), "net")
	dual := prefixes("10.0.0.0/29", "fd00::/64")
	for _, c := range []struct{ id, want string }{
		{"a", "10.0.0.2 fd00::2"}, {"b", "10.0.0.3 fd00::3"}, {"c", "10.0.0.4 fd00::4"},
	} {
		if got := reserve(t, s, c.id, dual); got != c.want {
			t.Errorf("%s has %s, want %s", c.id, got, c.want)
		}
	}
	if err := s.Release(owner("a")); err != nil {
		t.Fatal(err)
	}
	// A released address comes last.
	for _, c := range []struct{ id, want string }{{"d", "10.0.0.5 fd00::5"}, {"e", "10.0.0.6 fd00::6"}, {"f", "10.0.0.2 fd00::7"}} {
		if got := reserve(t, s, c.id, dual); got != c.want {
			t.Errorf("%s has %s, want %s", c.id, got, c.want)
		}
	}
	if _, err := s.Reserve(owner("g"), dual, nil); !errors.Is(err, containerizer.ErrResourceExhausted) {
		t.Errorf("Reserve() of a full subnet = %v, want ErrResourceExhausted", err)
	}
	held, err := s.Addresses()
	if err != nil || len(held) != 10 || held[netip.MustParseAddr("10.0.0.3")] != owner("b") {
		t.Errorf("Addresses() = %v, %v", held, err)
	}
}

func TestReserveWanted(t *testing.T) {
	s := ipam.Open(t.TempDir(), "net")
	dual := prefixes("10.0.0.0/24", "fd00::/64")
	if got := reserve(t, s, "a", dual, netip.MustParseAddr("fd00::99")); got != "10.0.0.2 fd00::99" {
		t.Errorf("Reserve() with a wanted address = %s", got)
	}
	for want, class := range map[string]error{
		"fd00::99": containerizer.ErrAlreadyExists, "10.0.1.2": containerizer.ErrInvalid,
		"10.0.0.0": containerizer.ErrInvalid, "10.0.0.1": containerizer.ErrInvalid, "10.0.0.255": containerizer.ErrInvalid,
	} {
		if _, err := s.Reserve(owner("b"), dual, []netip.Addr{netip.MustParseAddr(want)}); !errors.Is(err, class) {
			t.Errorf("Reserve() of %s = %v, want %v", want, err, class)
		}
	}
	held, err := s.Addresses()
	if err != nil || len(held) != 2 {
		t.Errorf("after refusals %v is held (%v), want a's", held, err)
	}
}

func TestRelease(t *testing.T) {
	dir := t.TempDir()
	s := ipam.Open(dir, "net")
	if err := s.Release(owner("nobody")); err != nil {
		t.Errorf("Release() before anything = %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "net")); err == nil {
		t.Error("Release made a store")
	}
	reserve(t, s, "a", prefixes("10.0.0.0/24"))
	reserve(t, s, "b", prefixes("10.0.0.0/24"))
	other := ipam.Owner{ID: "a", IfName: "eth1"}
	if err := s.Release(other, netip.MustParseAddr("10.0.0.2")); err != nil { // a hint that is another's
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Release(owner("b"), netip.MustParseAddr("10.0.0.3")); err != nil {
			t.Fatal(err)
		}
	}
	held, err := s.Addresses()
	want := map[netip.Addr]ipam.Owner{netip.MustParseAddr("10.0.0.2"): owner("a")}
	if diff := cmp.Diff(want, held, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" || err != nil {
		t.Errorf("Addresses() (-want +got): %s (%v)", diff, err)
	}
}

// TestCutOff checks that an address is not lost whose reservation was cut off.
func TestCutOff(t *testing.T) {
	dir := t.TempDir()
	s := ipam.Open(dir, "net")
	reserve(t, s, "a", prefixes("10.0.0.0/24"))
	if err := os.WriteFile(filepath.Join(dir, "net", "10.0.0.3"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := reserve(t, s, "b", prefixes("10.0.0.0/24")); got != "10.0.0.3" {
		t.Errorf("b has %s, want the address without owner", got)
	}
}

func TestParallel(t *testing.T) {
	dir := t.TempDir()
	const n = 64
	var wg sync.WaitGroup
	got := make([]netip.Addr, n)
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() {
			addrs, err := ipam.Open(dir, "net").Reserve(owner(fmt.Sprint(i)), prefixes("10.0.0.0/24"), nil)
			if errs[i] = err; err == nil {
				got[i] = addrs[0]
			}
		})
	}
	wg.Wait()
	seen := map[netip.Addr]bool{}
	for i := range n {
		if errs[i] != nil || seen[got[i]] {
			t.Errorf("%d: %v, %v", i, got[i], errs[i])
		}
		seen[got[i]] = true
	}
}

// TestHostLocal checks that the plug-in host-local and this package understand
// each other's stores.
func TestHostLocal(t *testing.T) {
	dir := t.TempDir()
	plugins, err := nettest.Plugins(t.Context(), t.TempDir(), "ipam/host-local")
	if err != nil {
		t.Fatal(err)
	}
	run := func(command, id string) string {
		t.Helper()
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(plugins, "host-local"))
		cmd.Env = []string{"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + id, "CNI_IFNAME=eth0", "CNI_NETNS=/proc/self/ns/net", "CNI_NETNS_OVERRIDE=1", "CNI_PATH=" + plugins}
		cmd.Stdin = strings.NewReader(fmt.Sprintf(`{"cniVersion":"1.0.0","name":"net","type":"x","ipam":{"type":"host-local","dataDir":%q,"subnet":"10.0.0.0/24"}}`, dir))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("host-local %s %s: %v\n%s", command, id, err, out)
		}
		return string(out)
	}
	s := ipam.Open(dir, "net")
	reserve(t, s, "ours", prefixes("10.0.0.0/24"))
	if out := run("ADD", "theirs"); !strings.Contains(out, "10.0.0.3/24") {
		t.Errorf("host-local does not go on after ours: %s", out)
	}
	if got := reserve(t, s, "ours2", prefixes("10.0.0.0/24")); got != "10.0.0.4" {
		t.Errorf("we do not go on after host-local: %s", got)
	}
	run("DEL", "ours")
	if err := s.Release(owner("theirs")); err != nil {
		t.Fatal(err)
	}
	held, err := s.Addresses()
	if err != nil || len(held) != 1 || held[netip.MustParseAddr("10.0.0.4")] != owner("ours2") {
		t.Errorf("held after each released the other's: %v, %v", held, err)
	}
}
