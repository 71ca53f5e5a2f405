package network_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/isolatortest"
	"github.com/berth-dev/berth/isolators/network/internal/nettest"
)

// TestNodesAtOnce attaches the first container of several nodes of one machine at
// the same time, each by a process of its own: each node has another subnet.
func TestNodesAtOnce(t *testing.T) {
	nettest.Need(t)
	const count = 8
	var wg sync.WaitGroup
	nodes := make([]*node, count)
	ids := make([]containerizer.ContainerID, count)
	output := make([]string, count)
	for k := range count {
		nodes[k] = newNode(t)
		ids[k] = containerizer.ContainerID(fmt.Sprintf("berthtest-node%d", k))
		b, err := json.Marshal(victim{Opts: nodes[k].opts, ID: ids[k], Ledger: filepath.Join(t.TempDir(), "ledger"), PID: nettest.New(t).PID()})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
		cmd.Env = append(os.Environ(), victimEnv+"="+string(b))
		wg.Go(func() {
			out, err := cmd.CombinedOutput()
			output[k] = fmt.Sprintf("%s%v", out, err)
		})
	}
	wg.Wait()
	var subnets []netip.Prefix
	for k, n := range nodes {
		if output[k] != "ready\n<nil>" {
			t.Errorf("node %d: %s", k, output[k])
			continue
		}
		c := isolatortest.NewContainer(t, withImage(containerizer.Network{})).Container
		c.ID = ids[k]
		var s containerizer.Status
		iso := n.isolator(t)
		if err := iso.Status(t.Context(), c, &s); err != nil || len(s.Networks) != 1 || len(s.Networks[0].IPs) != 1 {
			t.Errorf("node %d: Status() = %+v, %v", k, s.Networks, err)
			continue
		}
		subnet := netip.MustParsePrefix(s.Networks[0].IPs[0]).Masked()
		for other, used := range subnets {
			if used.Overlaps(subnet) {
				t.Errorf("node %d has subnet %s, which overlaps %s of node %d", k, subnet, used, other)
			}
		}
		subnets = append(subnets, subnet)
		if err := iso.Cleanup(t.Context(), c); err != nil {
			t.Errorf("node %d: Cleanup() = %v", k, err)
		}
	}
}

// TestSubnetTaken gives the subnet of the default network to somebody else when its
// bridge is gone: the next container gets another one, and so does one that is
// prepared already.
func TestSubnetTaken(t *testing.T) {
	n := newNode(t)
	nettest.Need(t)
	c := &container{Fixture: isolatortest.NewContainer(t, withImage(containerizer.Network{})), ns: nettest.New(t)}
	iso := n.isolator(t)
	info, err := iso.Prepare(t.Context(), c.Container)
	if err != nil {
		t.Fatal(err)
	}
	c.info = info
	removeBridges(t)
	nettest.Run(t, "ip", "link", "add", "taker", "type", "bridge")      // newNode removes it
	nettest.Run(t, "ip", "addr", "add", "10.80.7.7/24", "dev", "taker") // down, and so without a route
	if err := iso.Isolate(t.Context(), c.Container, c.ns.PID()); err != nil {
		t.Fatalf("Isolate() after the subnet was taken = %v", err)
	}
	for _, got := range []*container{c, n.run(t, withImage(containerizer.Network{}))} {
		if s := n.status(t, got); !strings.HasPrefix(s.Networks[0].IPs[0], "10.80.16.") {
			t.Errorf("Status() = %+v, want an address of the next subnet", s.Networks)
		}
	}
	if err := n.isolator(t).Cleanup(t.Context(), c.Damaged()); err != nil {
		t.Errorf("Cleanup() = %v", err)
	}
	if left := n.leftovers(t, c.ID); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
