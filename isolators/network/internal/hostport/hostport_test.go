package hostport_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/network/internal/hostport"
	"github.com/berth-dev/berth/isolators/network/internal/nettest"
)

func TestMain(m *testing.M) { nettest.Main(m) }

func tcp(ip string, port uint16) containerizer.PortMapping {
	return containerizer.PortMapping{Protocol: containerizer.ProtocolTCP, ContainerPort: 80, HostPort: port, HostIP: ip}
}

func ignore(string) error { return nil }

func TestOverlap(t *testing.T) {
	udp := tcp("", 80)
	udp.Protocol = containerizer.ProtocolUDP
	for _, c := range []struct {
		a, b containerizer.PortMapping
		want bool
	}{
		{tcp("", 80), tcp("", 80), true},
		{tcp("", 80), tcp("", 81), false},
		{tcp("", 80), udp, false},
		{tcp("", 80), tcp("127.0.0.1", 80), true},
		{tcp("0.0.0.0", 80), tcp("127.0.0.1", 80), true},
		{tcp("127.0.0.2", 80), tcp("127.0.0.1", 80), false},
		{tcp("127.0.0.1", 80), tcp("::ffff:127.0.0.1", 80), true},
		{tcp("::", 80), tcp("127.0.0.1", 80), false},
		{tcp("::", 80), tcp("::1", 80), true},
		{tcp("", 80), tcp("::1", 80), true},
	} {
		if got := hostport.Overlap(c.a, c.b); got != c.want {
			t.Errorf("Overlap(%v, %v) = %t, want %t", c.a, c.b, got, c.want)
		}
		if got := hostport.Overlap(c.b, c.a); got != c.want {
			t.Errorf("Overlap(%v, %v) = %t, want %t", c.b, c.a, got, c.want)
		}
	}
}

func TestReserve(t *testing.T) {
	nettest.Need(t)
	dir := filepath.Join(t.TempDir(), "ports")
	r := hostport.Open(dir)
	var told []string
	got, err := r.Reserve("a", []containerizer.PortMapping{tcp("", 8080), tcp("127.0.0.1", 0)}, func(name string) error {
		told = append(told, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got[0] != tcp("", 8080) || got[1].HostPort == 0 || got[1].HostIP != "127.0.0.1" {
		t.Errorf("Reserve() = %v", got)
	}
	if diff := cmp.Diff([]string{hostport.Name(got[0]), hostport.Name(got[1])}, told); diff != "" {
		t.Errorf("told before (-want +got):\n%s", diff)
	}
	for _, p := range []containerizer.PortMapping{tcp("", 8080), tcp("127.0.0.1", 8080), tcp("", got[1].HostPort)} {
		if _, err := r.Reserve("b", []containerizer.PortMapping{p}, ignore); !errors.Is(err, containerizer.ErrAlreadyExists) {
			t.Errorf("Reserve(%v) for another = %v, want ErrAlreadyExists", p, err)
		}
	}
	if _, err := r.Reserve("a", got, ignore); err != nil {
		t.Errorf("Reserve() of its own = %v", err)
	}
	targets := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:80")}
	if err := r.SetTargets("a", got[0], targets); err != nil {
		t.Fatal(err)
	}
	e, found, err := r.Get(hostport.Name(got[0]))
	if err != nil || !found || e.Owner != "a" || len(e.Targets) != 1 || e.Targets[0] != targets[0] {
		t.Errorf("Get() = %+v, %t, %v", e, found, err)
	}
	if err := r.Release("b", hostport.Name(got[0])); err != nil {
		t.Fatal(err)
	}
	if all, err := r.List(); err != nil || len(all) != 2 {
		t.Errorf("List() after a stranger's Release = %v, %v", all, err)
	}
	if err := os.WriteFile(filepath.Join(dir, hostport.Name(got[1])), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, p := range got {
			if err := r.Release("a", hostport.Name(p)); err != nil {
				t.Fatal(err)
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 {
		t.Errorf("left after Release: %q (%v), want the lock", files, err)
	}
}

func TestReserveSeesProcesses(t *testing.T) {
	nettest.Need(t)
	r := hostport.Open(t.TempDir())
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	for _, p := range []containerizer.PortMapping{tcp("", port), tcp("127.0.0.1", port), tcp("0.0.0.0", port)} {
		if _, err := r.Reserve("a", []containerizer.PortMapping{p}, ignore); !errors.Is(err, containerizer.ErrAlreadyExists) {
			t.Errorf("Reserve(%v) beside a listener = %v, want ErrAlreadyExists", p, err)
		}
	}
	if _, err := r.Reserve("a", []containerizer.PortMapping{tcp("127.0.0.2", port)}, ignore); err != nil {
		t.Errorf("Reserve() of another address = %v", err)
	}
	for _, protocol := range []containerizer.Protocol{containerizer.ProtocolUDP, containerizer.ProtocolSCTP} {
		for _, port := range []uint16{port, 0} {
			p := tcp("", port)
			p.Protocol = protocol
			if got, err := r.Reserve("a", []containerizer.PortMapping{p}, ignore); err != nil || got[0].HostPort == 0 {
				t.Errorf("Reserve(%v) = %v, %v", p, got, err)
			}
		}
	}
}

func TestReserveForeignAddress(t *testing.T) {
	nettest.Need(t)
	r := hostport.Open(t.TempDir())
	for _, p := range []containerizer.PortMapping{tcp("192.0.2.200", 8080), tcp("192.0.2.200", 0)} {
		if _, err := r.Reserve("a", []containerizer.PortMapping{p}, ignore); !errors.Is(err, containerizer.ErrInvalid) {
			t.Errorf("Reserve(%v) = %v, want ErrInvalid", p, err)
		}
	}
}

func TestReserveStopsAtLedger(t *testing.T) {
	nettest.Need(t)
	r := hostport.Open(t.TempDir())
	refused := errors.New("refused")
	if _, err := r.Reserve("a", []containerizer.PortMapping{tcp("", 0)}, func(string) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("Reserve() = %v, want the ledger's error", err)
	}
	if all, err := r.List(); err != nil || len(all) > 0 {
		t.Errorf("List() = %v, %v; want nothing reserved", all, err)
	}
}

// TestReserveParallel checks that no port is given twice across registries, as
// across processes.
func TestReserveParallel(t *testing.T) {
	nettest.Need(t)
	dir := t.TempDir()
	const n = 32
	ports := make([]uint16, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			got, err := hostport.Open(dir).Reserve(fmt.Sprint("c", i), []containerizer.PortMapping{tcp("", 0)}, ignore)
			if errs[i] = err; err == nil {
				ports[i] = got[0].HostPort
			}
		})
	}
	wg.Wait()
	seen := map[uint16]bool{}
	for i, p := range ports {
		if errs[i] != nil || seen[p] {
			t.Errorf("container %d: port %d, %v", i, p, errs[i])
		}
		seen[p] = true
	}
}
