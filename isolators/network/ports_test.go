package network_test

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/isolatortest"
	"github.com/berth-dev/berth/isolators/network/internal/nettest"
)

// TestPortsRefused asks for ports that cannot be published: each is an error of
// Prepare, before there is a process, and nothing is held after it.
func TestPortsRefused(t *testing.T) {
	nettest.Need(t)
	n := newNode(t)
	n.conf(t, "dual.conflist", `{"cniVersion":"1.0.0","name":"dual","plugins":[{"type":"berth-bridge","bridge":"dual0",
	 "subnets":["10.61.0.0/24","fd61::/64"],"capabilities":{"portMappings":true}}]}`)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	_, number, _ := net.SplitHostPort(l.Addr().String())
	port, _ := strconv.ParseUint(number, 10, 16)
	used := uint16(port)
	for _, c := range []struct {
		name, network string
		port          containerizer.PortMapping
		class         error
		says          string
	}{
		{"of a process", "", containerizer.PortMapping{ContainerPort: 80, HostPort: used}, containerizer.ErrAlreadyExists, "publish port " + number + "/tcp: a process of the host uses it"},
		{"of a process, its address", "", containerizer.PortMapping{ContainerPort: 80, HostPort: used, HostIP: "127.0.0.1"}, containerizer.ErrAlreadyExists, "127.0.0.1:" + number},
		{"loopback of IPv6", "", containerizer.PortMapping{ContainerPort: 80, HostIP: "::1"}, containerizer.ErrInvalid, "[::1]: the kernel cannot translate it"},
		{"loopback of IPv6, network with both", "dual", containerizer.PortMapping{ContainerPort: 80, HostIP: "::1"}, containerizer.ErrInvalid, "[::1]: the kernel cannot translate it"},
		{"other family", "", containerizer.PortMapping{ContainerPort: 80, HostIP: "::"}, containerizer.ErrInvalid, `network "berth" has no subnet of that family`},
		{"not an address of the host", "", containerizer.PortMapping{ContainerPort: 80, HostIP: "203.0.113.9"}, containerizer.ErrInvalid, "the host has no address 203.0.113.9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := isolatortest.NewContainer(t, withImage(containerizer.Network{
				Networks: []containerizer.NetworkAttachment{{Name: c.network}}, Ports: []containerizer.PortMapping{c.port},
			}))
			iso := n.isolator(t)
			if _, err := iso.Prepare(t.Context(), f.Container); !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Prepare() = %v, want %v and %q", err, c.class, c.says)
			}
			if err := iso.Cleanup(t.Context(), f.Damaged()); err != nil {
				t.Errorf("Cleanup() = %v", err)
			}
			if left := n.leftovers(t, f.ID); len(left) > 0 || len(f.Ledger.All()) > 0 {
				t.Errorf("left: %q, ledger %v", left, f.Ledger.All())
			}
		})
	}
}
