package soak_test

import (
	"fmt"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// TestRunning measures what a daemon costs that has many containers running, and how
// long the next one takes that finds them. The limits of memory are the targets: 30 MB idle,
// 60 MB with 500. That of recovery, 1 s with 500, has room for a busy machine.
func TestRunning(t *testing.T) {
	const (
		idleRSS  = 30_000 // kB
		recovery = 4 * time.Second
		watched  = 20 * time.Second
		idleCPU  = 200 * time.Millisecond // of watched
	)
	busyRSS := idleRSS + 15_000 + *running*30 // kB: 60 MB with 500
	n := newNode(t)
	n.restart(syscall.SIGTERM) // the pull is none of its costs
	idle := n.sample(false)
	t.Logf("idle: %s", idle)
	n.profile("idle")
	if idle.rss > idleRSS {
		t.Errorf("a daemon without containers takes %d kB, want at most %d", idle.rss, idleRSS)
	}
	began := time.Now()
	each(*running, *inFlight, func(i int) {
		id := containerizer.ContainerID(fmt.Sprintf("runs-%d", i))
		if _, err := n.client.Containers.Launch(t.Context(), id, n.spec("while :; do sleep 100000; done"), containerizer.LaunchOptions{}); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		return
	}
	t.Logf("%d containers were launched in %s", *running, time.Since(began).Round(time.Millisecond))
	time.Sleep(2 * time.Second) // what a launch leaves to the background
	full := n.sample(false)
	t.Logf("just launched: %s", full)
	n.profile("launched")
	if full.rss > busyRSS {
		t.Errorf("a daemon that launched %d containers takes %d kB, want at most %d", *running, full.rss, busyRSS)
	}
	up := n.restart(syscall.SIGKILL)
	took := n.recovery()
	t.Logf("killed and started again: ready after %s, of which recovery %s", up.Round(time.Millisecond), took)
	if took > recovery {
		t.Errorf("recovery took %s, want at most %s", took, recovery)
	}
	time.Sleep(2 * time.Second) // likewise
	cpu := n.cpu()
	time.Sleep(watched) // measured, not waited for
	used := n.cpu() - cpu
	found := n.sample(false)
	t.Logf("recovered: %s", found)
	n.profile("recovered")
	t.Logf("CPU in %s of nothing to do: %s", watched, used)
	if found.rss > busyRSS {
		t.Errorf("a daemon that found %d containers takes %d kB, want at most %d", *running, found.rss, busyRSS)
	}
	if used > idleCPU {
		t.Errorf("with nothing to do it used %s of CPU in %s, want at most %s", used, watched, idleCPU)
	}
	all, err := n.client.Containers.List(t.Context(), containerizer.Filter{States: []containerizer.State{containerizer.StateRunning}})
	if err != nil || len(all) != *running {
		t.Errorf("%d containers run, %v; want %d", len(all), err, *running)
	}
}

// restart ends the daemon and starts the next one.
func (n *node) restart(sig syscall.Signal) time.Duration {
	n.Helper()
	n.end(sig)
	return n.start()
}

// recovery is how long the last daemon says that its recovery took.
func (n *node) recovery() time.Duration {
	n.Helper()
	found := regexp.MustCompile(`"recovery":("[^"]+"|[0-9.]+)`).FindAllStringSubmatch(n.logged(), -1)
	if len(found) == 0 {
		n.Fatalf("no word of a recovery:\n%s", n.logged())
	}
	text, err := strconv.Unquote(found[len(found)-1][1])
	if err != nil {
		n.Fatal(err)
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		n.Fatal(err)
	}
	return d
}
