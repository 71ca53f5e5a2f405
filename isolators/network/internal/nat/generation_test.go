package nat

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/network/internal/nettest"
)

// TestConsistent changes the ruleset while it is read, some times or always.
func TestConsistent(t *testing.T) {
	nettest.Need(t)
	table, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = table.Close() })
	if _, err := table.EnsureBridge(Bridge{Name: "consistent0", Subnets: []netip.Prefix{netip.MustParsePrefix("10.62.0.0/24")}}); err != nil {
		t.Fatal(err)
	}
	other := errors.New("other")
	for _, c := range []struct {
		name    string
		changes int
		fails   error
		class   error
		reads   int
	}{
		{"never changed", 0, nil, nil, 1},
		{"changed some times", 3, nil, nil, 4},
		{"always changed", readAttempts, nil, containerizer.ErrUnavailable, readAttempts},
		{"read fails", 0, other, other, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := []Mapping{{
				Protocol: containerizer.ProtocolTCP, Host: netip.MustParseAddrPort("0.0.0.0:80"), Container: netip.MustParseAddrPort("10.62.0.2:80"),
			}}
			reads := 0
			err := table.consistent(func() error {
				if reads++; reads <= c.changes {
					return errors.Join(table.Publish(m), table.Unpublish(m))
				}
				return c.fails
			})
			if reads != c.reads || !errors.Is(err, c.class) {
				t.Errorf("consistent() = %v after %d reads, want %v after %d", err, reads, c.class, c.reads)
			}
		})
	}
	if err := table.Drop(); err != nil {
		t.Error(err)
	}
}
