package nat_test

import (
	"errors"
	"net/netip"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/network/internal/nat"
	"github.com/berth-dev/berth/isolators/network/internal/nettest"
)

func TestMain(m *testing.M) { nettest.Main(m) }

var subnets = []netip.Prefix{netip.MustParsePrefix("10.1.240.0/20"), netip.MustParsePrefix("fd00:1::/64")}

func mapping(p containerizer.Protocol, host, container string) nat.Mapping {
	return nat.Mapping{Protocol: p, Host: netip.MustParseAddrPort(host), Container: netip.MustParseAddrPort(container)}
}

func open(t *testing.T) *nat.Table {
	t.Helper()
	table, err := nat.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = table.Close() })
	return table
}

func ensure(t *testing.T, table *nat.Table, b nat.Bridge) bool {
	t.Helper()
	created, err := table.EnsureBridge(b)
	if err != nil {
		t.Fatalf("EnsureBridge(%+v) = %v", b, err)
	}
	return created
}

func published(t *testing.T, table *nat.Table) []nat.Mapping {
	t.Helper()
	got, err := table.Published()
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func diff(a, b []nat.Mapping) string {
	return cmp.Diff(a, b, cmp.Comparer(func(x, y nat.Mapping) bool { return x == y }), cmpopts.EquateEmpty(),
		cmpopts.SortSlices(func(x, y nat.Mapping) bool { return x.Host.String() < y.Host.String() }))
}

func TestPublish(t *testing.T) {
	nettest.Need(t)
	table := open(t)
	if got := published(t, table); len(got) > 0 {
		t.Fatalf("Published() before the table exists = %v", got)
	}
	if err := table.Unpublish([]nat.Mapping{mapping("tcp", "0.0.0.0:80", "10.0.0.2:8080")}); err != nil {
		t.Fatalf("Unpublish() before the table exists = %v", err)
	}
	if !ensure(t, table, nat.Bridge{Name: "b0", Subnets: subnets, Masquerade: true, Isolate: true}) {
		t.Error("the first EnsureBridge did not create the table")
	}
	if ensure(t, table, nat.Bridge{Name: "b0", Subnets: subnets, Masquerade: true, Isolate: true}) || ensure(t, table, nat.Bridge{Name: "b1"}) {
		t.Error("a further EnsureBridge made the table anew")
	}
	all := []nat.Mapping{
		mapping("tcp", "0.0.0.0:80", "10.0.0.2:8080"), mapping("udp", "192.0.2.1:53", "10.0.0.2:53"),
		mapping("sctp", "[::]:99", "[fd00::2]:99"), mapping("tcp", "[fd00::1]:443", "[fd00::2]:443"),
	}
	for range 2 { // publishing again is fine
		if err := table.Publish(all); err != nil {
			t.Fatalf("Publish() = %v", err)
		}
	}
	if d := diff(all, published(t, table)); d != "" {
		t.Errorf("Published() (-want +got):\n%s", d)
	}
	other := []nat.Mapping{mapping("tcp", "0.0.0.0:81", "10.0.0.3:1"), mapping("tcp", "0.0.0.0:80", "10.0.0.3:1")}
	if err := table.Publish(other); !errors.Is(err, nat.ErrTaken) || !errors.Is(err, containerizer.ErrAlreadyExists) {
		t.Errorf("Publish of a taken port = %v, want ErrTaken", err)
	}
	if err := table.Unpublish(other); err != nil {
		t.Errorf("Unpublish() of another's = %v", err)
	}
	if d := diff(all, published(t, table)); d != "" {
		t.Errorf("Published() after a conflict (-want +got):\n%s", d)
	}
	for range 2 {
		if err := table.Unpublish(all); err != nil {
			t.Fatalf("Unpublish() = %v", err)
		}
	}
	if got := published(t, table); len(got) > 0 {
		t.Errorf("Published() after Unpublish = %v", got)
	}
	for range 2 {
		if err := table.RemoveBridge(nat.Bridge{Name: "b0", Subnets: subnets}); err != nil {
			t.Errorf("RemoveBridge() = %v", err)
		}
	}
}

func TestPublishRefuses(t *testing.T) {
	nettest.Need(t)
	table := open(t)
	ensure(t, table, nat.Bridge{Name: "b0"})
	for name, m := range map[string]nat.Mapping{
		"mixed families": mapping("tcp", "0.0.0.0:80", "[fd00::2]:80"),
		"protocol":       mapping("icmp", "0.0.0.0:80", "10.0.0.2:80"),
		"no address":     {Protocol: "tcp"},
	} {
		if err := table.Publish([]nat.Mapping{m}); !errors.Is(err, containerizer.ErrInvalid) {
			t.Errorf("%s: Publish() = %v, want ErrInvalid", name, err)
		}
	}
}

// TestNFTReads checks that administrators can read what the table holds.
func TestNFTReads(t *testing.T) {
	nettest.Need(t)
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("nft is not installed")
	}
	table := open(t)
	ensure(t, table, nat.Bridge{Name: "b0", Subnets: subnets, Masquerade: true, Isolate: true})
	if err := table.Publish([]nat.Mapping{mapping("tcp", "0.0.0.0:80", "10.0.0.2:8080"), mapping("udp", "[::1]:80", "[fd00::2]:8080")}); err != nil {
		t.Fatal(err)
	}
	t.Log(nettest.Run(t, "nft", "list", "table", "inet", nat.TableName))
	nettest.Run(t, "nft", "flush", "ruleset")
	if !ensure(t, table, nat.Bridge{Name: "b0", Subnets: subnets, Masquerade: true, Isolate: true}) {
		t.Error("EnsureBridge did not notice that the ruleset was flushed")
	}
}
