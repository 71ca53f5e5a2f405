package bridge_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/network/internal/bridge"
	"github.com/berth-dev/berth/isolators/network/internal/hostport"
	"github.com/berth-dev/berth/isolators/network/internal/ipam"
	"github.com/berth-dev/berth/isolators/network/internal/nat"
	"github.com/berth-dev/berth/isolators/network/internal/nettest"
)

func TestMain(m *testing.M) { nettest.Main(m) }

const subnet = "10.99.0.0/24"

// host is a plug-in with directories of its own.
type host struct {
	*bridge.Plugin
	config bridge.Config
}

func newHost(t *testing.T) *host {
	t.Helper()
	nettest.Need(t)
	h := &host{Plugin: &bridge.Plugin{
		AddressDir: t.TempDir(),
		Ports:      hostport.Open(t.TempDir()),
		Warn:       func(network string, err error) { t.Errorf("warning for %s: %v", network, err) },
	}}
	h.config = bridge.Config{
		CNIVersion: "1.0.0", Name: "test", Type: bridge.Type, Bridge: "btest0", Masquerade: true, Isolate: true,
		Subnets: []netip.Prefix{netip.MustParsePrefix(subnet), netip.MustParsePrefix("fd99::/64")},
	}
	t.Cleanup(func() {
		if link, err := netlink.LinkByName("btest0"); err == nil {
			_ = netlink.LinkDel(link) // the namespace ends with the tests anyway
		}
	})
	return h
}

func (h *host) request(tb testing.TB, id string, ns *nettest.Namespace, ports ...bridge.PortMapping) bridge.Request {
	tb.Helper()
	c := h.config
	c.Runtime.PortMappings = ports
	b, err := json.Marshal(c)
	if err != nil {
		tb.Fatal(err)
	}
	r := bridge.Request{ContainerID: id, IfName: "eth0", Config: b}
	if ns != nil {
		r.NetNS = ns.Path()
	}
	return r
}

// add attaches ns and returns its addresses without their prefix lengths.
func (h *host) add(t *testing.T, r bridge.Request) []string {
	t.Helper()
	b, err := h.Add(t.Context(), r)
	if err != nil {
		t.Fatalf("Add(%s) = %v", r.ContainerID, err)
	}
	t.Cleanup(func() {
		r.NetNS = ""
		if err := h.Del(r); err != nil && t.Context().Err() == nil {
			t.Errorf("Del(%s) = %v", r.ContainerID, err)
		}
	})
	var result types100.Result
	if err := json.Unmarshal(b, &result); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, ip := range result.IPs {
		out = append(out, ip.Address.IP.String())
	}
	return out
}

func (h *host) reserve(t *testing.T, id string, p bridge.PortMapping) bridge.PortMapping {
	t.Helper()
	got, err := h.Ports.Reserve(id, []containerizer.PortMapping{{
		Protocol: containerizer.Protocol(p.Protocol), ContainerPort: p.ContainerPort, HostPort: p.HostPort, HostIP: p.HostIP,
	}}, func(string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	p.HostPort = got[0].HostPort
	return p
}

func TestTraffic(t *testing.T) {
	h := newHost(t)
	lan, a, b := nettest.New(t), nettest.New(t), nettest.New(t)
	nettest.Connect(t, "up0", lan, "192.0.2.1/24", "192.0.2.2/24")
	lan.Run(t, "ip", "route", "del", "default")
	lan.Run(t, "ip", "route", "add", "10.99.0.0/24", "via", "192.0.2.1") // a neighbour that routes to containers

	port := func(protocol string) bridge.PortMapping {
		return h.reserve(t, "a", bridge.PortMapping{ContainerPort: 80, Protocol: protocol})
	}
	tcp, udp := port("tcp"), port("udp")
	local := h.reserve(t, "a", bridge.PortMapping{ContainerPort: 80, Protocol: "tcp", HostIP: "127.0.0.1"})
	aIPs := h.add(t, h.request(t, "a", a, tcp, udp, local))
	bIPs := h.add(t, h.request(t, "b", b))
	a.Serve(t, "tcp", "0.0.0.0:80")
	a.Serve(t, "udp", "0.0.0.0:80")
	nettest.Serve(t, "tcp", "127.0.0.1:9999")
	lan.Serve(t, "tcp", "0.0.0.0:70")
	const hostAddr, bridgeAddr = "192.0.2.1", "10.99.0.1"

	dialHost := nettest.Dial
	for _, c := range []struct {
		name, network, address string
		dial                   func(network, address string) (string, error)
		want                   string // the client's address as the server sees it; "" for no answer
	}{
		{"host to container", "tcp", aIPs[0] + ":80", dialHost, bridgeAddr},
		{"container to container", "tcp", aIPs[0] + ":80", b.Dial, bIPs[0]},
		{"container to outside, masqueraded", "tcp", "192.0.2.2:70", a.Dial, hostAddr},
		{"outside to unpublished port", "tcp", aIPs[0] + ":80", lan.Dial, ""},
		{"host to published, loopback", "tcp", fmt.Sprint("127.0.0.1:", tcp.HostPort), dialHost, bridgeAddr},
		{"host to published, own address", "tcp", fmt.Sprint(hostAddr, ":", tcp.HostPort), dialHost, hostAddr},
		{"host to published udp", "udp", fmt.Sprint("127.0.0.1:", udp.HostPort), dialHost, bridgeAddr},
		{"outside to published", "tcp", fmt.Sprint(hostAddr, ":", tcp.HostPort), lan.Dial, "192.0.2.2"},
		{"outside to published udp", "udp", fmt.Sprint(hostAddr, ":", udp.HostPort), lan.Dial, "192.0.2.2"},
		{"neighbour container to published", "tcp", fmt.Sprint(hostAddr, ":", tcp.HostPort), b.Dial, bridgeAddr},
		{"itself by published", "tcp", fmt.Sprint(hostAddr, ":", tcp.HostPort), a.Dial, bridgeAddr},
		{"host to loopback-only", "tcp", fmt.Sprint("127.0.0.1:", local.HostPort), dialHost, bridgeAddr},
		{"outside to loopback-only", "tcp", fmt.Sprint(hostAddr, ":", local.HostPort), lan.Dial, ""},
	} {
		got, err := c.dial(c.network, c.address)
		if got != c.want || (c.want != "") != (err == nil) {
			t.Errorf("%s (%s %s): server saw %q, %v; want %q", c.name, c.network, c.address, got, err, c.want)
		}
	}
	// A container must not reach the host's loopback, although route_localnet is set.
	b.Run(t, "ip", "link", "set", "lo", "down")
	b.Run(t, "ip", "addr", "flush", "dev", "lo")
	b.Run(t, "ip", "route", "add", "127.0.0.1/32", "via", bridgeAddr)
	if err := b.Try(func() error { return writeFile("/proc/sys/net/ipv4/conf/all/route_localnet", "1") }); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Dial("tcp", "127.0.0.1:9999"); err == nil {
		t.Errorf("a container reached the host's loopback and was seen as %q", got)
	}
}

func TestDual(t *testing.T) {
	h := newHost(t)
	a := nettest.New(t)
	p := h.reserve(t, "a", bridge.PortMapping{ContainerPort: 80, Protocol: "tcp"})
	ips := h.add(t, h.request(t, "a", a, p))
	a.Serve(t, "tcp", "[::]:80")
	nettest.Run(t, "ip", "addr", "add", "fd01::1/128", "dev", "lo", "nodad")
	for _, address := range []string{net.JoinHostPort(ips[1], "80"), fmt.Sprintf("[fd01::1]:%d", p.HostPort)} {
		// The kernel may drop the first packet to an address of version 6 that is this new.
		_, err := nettest.Dial("tcp", address)
		for range 2 {
			if err != nil {
				_, err = nettest.Dial("tcp", address)
			}
		}
		if err != nil {
			t.Errorf("dial %s: %v", address, err)
		}
	}
}

// TestRouterAdvertisements checks that neighbours cannot become routers
// (CVE-2020-10749).
func TestRouterAdvertisements(t *testing.T) {
	h := newHost(t)
	dual, plain := nettest.New(t), nettest.New(t)
	h.add(t, h.request(t, "dual", dual))
	h.config.Subnets = h.config.Subnets[:1]
	h.add(t, h.request(t, "plain", plain))
	for _, c := range []struct{ who, got, want string }{
		{"the bridge accepts", nettest.Run(t, "cat", "/proc/sys/net/ipv6/conf/btest0/accept_ra"), "0\n"},
		{"a container accepts", readIn(t, dual, "/proc/sys/net/ipv6/conf/eth0/accept_ra"), "0\n"},
		{"a container without IPv6 has it off", readIn(t, plain, "/proc/sys/net/ipv6/conf/eth0/disable_ipv6"), "1\n"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", c.who, c.got, c.want)
		}
	}
}

func readIn(t *testing.T, ns *nettest.Namespace, path string) string {
	t.Helper()
	var b []byte
	ns.Do(t, func() (err error) {
		b, err = os.ReadFile(path)
		return err
	})
	return string(b)
}

// TestFlowFromBefore checks that a client of UDP that was there first reaches the
// container from the same port.
func TestFlowFromBefore(t *testing.T) {
	h := newHost(t)
	h.add(t, h.request(t, "first", nettest.New(t))) // rules exist, so flows are tracked
	p := h.reserve(t, "a", bridge.PortMapping{ContainerPort: 53, Protocol: "udp"})
	client, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(p.HostPort)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	_, _ = client.Write([]byte("?")) // nobody is there: refused
	a := nettest.New(t)
	h.add(t, h.request(t, "a", a, p))
	a.Serve(t, "udp", "0.0.0.0:53")
	answer := make([]byte, 64)
	if err := client.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, _ = client.Read(answer) // takes the refusal
	if _, err := client.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Read(answer); err != nil {
		t.Errorf("no answer: %v", err)
	}
}

// TestForwardDrop checks that containers work beside Docker and ufw, which make
// iptables drop what is forwarded.
func TestForwardDrop(t *testing.T) {
	h := newHost(t)
	if _, err := exec.LookPath("iptables"); err != nil {
		t.Skip("iptables is not installed")
	}
	nettest.Run(t, "iptables", "-P", "FORWARD", "DROP")
	t.Cleanup(func() {
		_ = exec.CommandContext(context.WithoutCancel(t.Context()), "iptables", "-P", "FORWARD", "ACCEPT").Run()
	})
	lan := nettest.New(t)
	nettest.Connect(t, "up2", lan, "192.0.2.1/24", "192.0.2.2/24")
	lan.Serve(t, "tcp", "0.0.0.0:70")
	for _, id := range []string{"a", "b"} { // the second finds the rules there
		ns := nettest.New(t)
		p := h.reserve(t, id, bridge.PortMapping{ContainerPort: 80, Protocol: "tcp"})
		h.add(t, h.request(t, id, ns, p))
		ns.Serve(t, "tcp", "0.0.0.0:80")
		if _, err := ns.Dial("tcp", "192.0.2.2:70"); err != nil {
			t.Errorf("container %s to outside: %v", id, err)
		}
		if _, err := lan.Dial("tcp", fmt.Sprint("192.0.2.1:", p.HostPort)); err != nil {
			t.Errorf("outside to published port of %s: %v", id, err)
		}
	}
	want := "-P FORWARD DROP\n-A FORWARD -o btest0 -j ACCEPT\n-A FORWARD -i btest0 -j ACCEPT\n"
	if got := nettest.Run(t, "iptables", "-S", "FORWARD"); got != want {
		t.Errorf("iptables -S FORWARD:\n%swant:\n%s", got, want)
	}
}

func TestDelLeavesNothing(t *testing.T) {
	h := newHost(t)
	for name, gone := range map[string]bool{"namespace there": false, "namespace going": true} {
		t.Run(name, func(t *testing.T) {
			a := nettest.New(t)
			p := h.reserve(t, "a", bridge.PortMapping{ContainerPort: 80, Protocol: "tcp"})
			r := h.request(t, "a", a, p)
			h.add(t, r)
			if err := h.Check(r); err != nil {
				t.Errorf("Check() = %v", err)
			}
			if gone {
				r.NetNS = "" // and somebody holds it open
			}
			for range 2 {
				if err := h.Del(r); err != nil {
					t.Fatalf("Del() = %v", err)
				}
			}
			h.mustBeClean(t)
			if err := h.Check(r); !errors.Is(err, containerizer.ErrNotFound) {
				t.Errorf("Check() after Del = %v, want ErrNotFound", err)
			}
			if err := h.Ports.Release("a", hostport.Name(containerizer.PortMapping{Protocol: "tcp", HostPort: p.HostPort})); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func (h *host) mustBeClean(t *testing.T) {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links { // unplugged ones go with their namespace
		if l.Type() == "veth" && (l.Attrs().MasterIndex != 0 || l.Attrs().Flags&net.FlagUp != 0) {
			t.Errorf("interface %q is left", l.Attrs().Name)
		}
	}
	if err := bridge.Sweep(); err != nil {
		t.Errorf("Sweep() = %v", err)
	}
	if links, err = netlink.LinkList(); err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Type() == "veth" {
			t.Errorf("interface %q is left after Sweep", l.Attrs().Name)
		}
	}
	held, err := ipam.Open(h.AddressDir, "test").Addresses()
	if err != nil || len(held) > 0 {
		t.Errorf("addresses left: %v, %v", held, err)
	}
	table, err := nat.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = table.Close() }()
	if left, err := table.Published(); err != nil || len(left) > 0 {
		t.Errorf("ports left: %v, %v", left, err)
	}
}

// TestFlushedRules checks that published ports come back after somebody flushed
// the ruleset, with the next container.
func TestFlushedRules(t *testing.T) {
	h := newHost(t)
	a := nettest.New(t)
	p := h.reserve(t, "a", bridge.PortMapping{ContainerPort: 80, Protocol: "tcp"})
	h.add(t, h.request(t, "a", a, p))
	a.Serve(t, "tcp", "0.0.0.0:80")
	conn, err := nat.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.Drop(); err != nil {
		t.Fatal(err)
	}
	h.add(t, h.request(t, "b", nettest.New(t)))
	if _, err := nettest.Dial("tcp", fmt.Sprint("127.0.0.1:", p.HostPort)); err != nil {
		t.Errorf("dial the published port: %v", err)
	}
}

func TestParallel(t *testing.T) {
	h := newHost(t)
	const n = 32
	var wg sync.WaitGroup
	requests := make([]bridge.Request, n)
	results := make([]string, n)
	errs := make([]error, n)
	for i := range n {
		id := fmt.Sprint("c", i)
		requests[i] = h.request(t, id, nettest.New(t), h.reserve(t, id, bridge.PortMapping{ContainerPort: 80, Protocol: "tcp"}))
	}
	for i := range n {
		wg.Go(func() {
			var b []byte
			b, errs[i] = h.Add(t.Context(), requests[i])
			var result types100.Result
			if errs[i] == nil {
				errs[i] = json.Unmarshal(b, &result)
				results[i] = result.IPs[0].Address.IP.String()
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for i := range n {
		if errs[i] != nil || seen[results[i]] {
			t.Errorf("container %d: address %q, %v", i, results[i], errs[i])
		}
		seen[results[i]] = true
	}
	for i := range n {
		wg.Go(func() { errs[i] = h.Del(requests[i]) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Errorf("Del: %v", err)
	}
	h.mustBeClean(t)
}

func TestChosenAddress(t *testing.T) {
	h := newHost(t)
	h.config.Runtime.IPs, h.config.Runtime.MAC = []string{"10.99.0.77/24"}, "02:00:00:00:00:77"
	a := nettest.New(t)
	if ips := h.add(t, h.request(t, "a", a)); ips[0] != "10.99.0.77" {
		t.Errorf("addresses %v, want 10.99.0.77 first", ips)
	}
	if out := a.Run(t, "ip", "link", "show", "eth0"); !strings.Contains(out, "02:00:00:00:00:77") {
		t.Errorf("hardware address is not as chosen:\n%s", out)
	}
	_, err := h.Add(t.Context(), h.request(t, "b", nettest.New(t)))
	if !errors.Is(err, containerizer.ErrAlreadyExists) {
		t.Errorf("Add() with a taken address = %v, want ErrAlreadyExists", err)
	}
	for _, ip := range []string{"10.98.0.1", "10.99.0.1", "10.99.0.255"} {
		h.config.Runtime.IPs = []string{ip}
		if _, err := h.Add(t.Context(), h.request(t, "c", nettest.New(t))); !errors.Is(err, containerizer.ErrInvalid) {
			t.Errorf("Add() with address %s = %v, want ErrInvalid", ip, err)
		}
	}
}

func TestRefuses(t *testing.T) {
	h := newHost(t)
	for name, change := range map[string]func(c *bridge.Config){
		"no bridge":        func(c *bridge.Config) { c.Bridge = "" },
		"long bridge":      func(c *bridge.Config) { c.Bridge = "sixteen-letters-" },
		"slash":            func(c *bridge.Config) { c.Bridge = "a/b" },
		"no subnet":        func(c *bridge.Config) { c.Subnets = nil },
		"two of a family":  func(c *bridge.Config) { c.Subnets[1] = netip.MustParsePrefix("10.98.0.0/24") },
		"tiny":             func(c *bridge.Config) { c.Subnets = []netip.Prefix{netip.MustParsePrefix("10.98.0.0/31")} },
		"mtu":              func(c *bridge.Config) { c.MTU = 1 },
		"hardware address": func(c *bridge.Config) { c.Runtime.MAC = "01:00:00:00:00:00" },
		"address":          func(c *bridge.Config) { c.Runtime.IPs = []string{"x"} },
		"version":          func(c *bridge.Config) { c.CNIVersion = "x" },
		"interface":        func(c *bridge.Config) { c.Bridge = "lo" },
		"overlap":          func(c *bridge.Config) { c.Subnets = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/16")} },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			change(&h.config)
			_, err := h.Add(t.Context(), h.request(t, "a", nettest.New(t)))
			if !errors.Is(err, containerizer.ErrInvalid) && !errors.Is(err, containerizer.ErrFailedPrecondition) {
				t.Errorf("Add() = %v, want ErrInvalid or ErrFailedPrecondition", err)
			}
		})
	}
	h.mustBeClean(t)
}

func TestChooseSubnet(t *testing.T) {
	nettest.Need(t)
	lan := nettest.New(t)
	nettest.Connect(t, "up1", lan, "10.50.1.1/24", "10.50.1.2/24")
	candidates := []netip.Prefix{netip.MustParsePrefix("10.50.0.0/16"), netip.MustParsePrefix("10.51.0.0/16"), netip.MustParsePrefix("10.52.0.0/16")}
	got, err := bridge.ChooseSubnet(candidates, "none", []netip.Addr{netip.MustParseAddr("10.51.3.3")})
	if err != nil || got != candidates[2] {
		t.Errorf("ChooseSubnet() = %v, %v; want %v", got, err, candidates[2])
	}
	if _, err := bridge.ChooseSubnet(candidates[:1], "none", nil); !errors.Is(err, containerizer.ErrResourceExhausted) {
		t.Errorf("ChooseSubnet() of used ones = %v, want ErrResourceExhausted", err)
	}
}

func BenchmarkAddDel(b *testing.B) {
	h := &host{Plugin: &bridge.Plugin{AddressDir: b.TempDir(), Ports: hostport.Open(b.TempDir()), Warn: func(string, error) {}}}
	h.config = bridge.Config{CNIVersion: "1.0.0", Name: "test", Type: bridge.Type, Bridge: "btest0", Masquerade: true, Isolate: true, Subnets: []netip.Prefix{netip.MustParsePrefix(subnet)}}
	ns := nettest.New(b)
	r := h.request(b, "a", ns)
	for _, del := range []bool{false, true} {
		b.Run(fmt.Sprintf("del=%t", del), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if del {
					b.StopTimer()
				}
				if _, err := h.Add(b.Context(), r); err != nil {
					b.Fatal(err)
				}
				if del {
					b.StartTimer()
				} else {
					b.StopTimer()
				}
				if err := h.Del(r); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"cniVersion":"1.0.0","name":"x","type":"berth-bridge","bridge":"b0","subnets":["10.0.0.0/24"],"runtimeConfig":{"ips":["10.0.0.2/24"],"mac":"02:00:00:00:00:01","portMappings":[{"hostPort":1,"containerPort":2,"protocol":"tcp"}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &bridge.Plugin{AddressDir: t.TempDir(), Ports: hostport.Open(t.TempDir()), Warn: func(string, error) {}}
		// CHECK reads the configuration and changes nothing.
		if err := p.Check(bridge.Request{ContainerID: "a", IfName: "eth0", Config: b}); err == nil {
			t.Errorf("Check(%q) found a container that never was", b)
		}
	})
}
