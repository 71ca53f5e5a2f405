package soak_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

var (
	containers = flag.Int("containers", 120, "how many containers to start and stop")
	inFlight   = flag.Int("inflight", 50, "how many at once")
	limit      = flag.Duration("limit", 2*time.Minute, "how long to start containers for, at most")
	profiles   = flag.String("profiles", "", "a folder for profiles of the daemon's memory, goroutines and mappings at each sample that is logged")
	running    = flag.Int("running", 25, "how many containers run at once for the figures of a daemon")
)

// TestStartStop starts and stops many containers of several kinds, and looks at what
// is larger than it was after the first few of each kind.
func TestStartStop(t *testing.T) {
	n := newNode(t)
	for i := range 2 * kinds { // what is made once and stays
		n.cycle(i)
	}
	each(*inFlight, *inFlight, func(i int) { n.cycle(i) })
	before, left := n.settle(n.sample(true))
	if len(left) > 0 {
		t.Fatalf("nothing happens, and this grows: %q", left)
	}
	t.Logf("before: %s", before)
	n.profile("before")
	began := time.Now()
	var done atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), *limit)
	defer cancel()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		n.report(ctx, began, &done)
	}()
	each(*containers, *inFlight, func(i int) {
		if ctx.Err() != nil || t.Failed() {
			return
		}
		n.cycle(i) //nolint:contextcheck // a life has a limit of its own
		done.Add(1)
	})
	took := time.Since(began)
	cancel()
	<-watched
	after, left := n.settle(before)
	t.Logf("after:  %s", after)
	n.profile("after")
	t.Logf("%d containers in %s, %d in flight: %.1f/s, %.1f ms of the daemon's CPU each", done.Load(), took.Round(time.Millisecond), *inFlight,
		float64(done.Load())/took.Seconds(), float64(after.cpu-before.cpu)/float64(time.Millisecond)/float64(done.Load()))
	for _, l := range left {
		t.Error(l)
	}
	if t.Failed() {
		t.Logf("processes: %q\n%s", n.processes(), n.debug("/debug/pprof/goroutine?debug=1"))
	}
}

// report logs a sample now and then.
func (n *node) report(ctx context.Context, began time.Time, done *atomic.Int64) {
	const pause = 15 * time.Second
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			n.Logf("%s, %d done: %s", time.Since(began).Round(time.Second), done.Load(), n.sample(false)) //nolint:contextcheck // likewise
		case <-ctx.Done():
			return
		}
	}
}

// kinds is how many kinds of lives there are; see cycle.
const kinds = 8

// cycle is the life of one container, of the kind that its number says.
func (n *node) cycle(i int) {
	ctx, cancel := context.WithTimeout(n.Context(), patience)
	defer cancel()
	id := containerizer.ContainerID(fmt.Sprintf("soak-%d-%d", i, time.Now().UnixNano()))
	if err := n.live(ctx, id, i%kinds); err != nil {
		n.Errorf("container %d, of kind %d: %v", i, i%kinds, err)
	}
}

func (n *node) live(ctx context.Context, id containerizer.ContainerID, kind int) error {
	const forever = "while :; do sleep 1000; done"
	e := n.client.Containers
	spec := n.spec(forever)
	switch kind {
	case 1: // ends by itself and goes by itself
		spec = n.spec("exit 0")
		spec.AutoRemove = true
	case 2: // ends by itself, and is waited for
		spec = n.spec("echo something; exit 7")
	case 3: // in the bridge
		spec.Network = containerizer.Network{}
	case 4: // a command that is not there
		spec.Process.Args = []string{"/nonexistent"}
	}
	_, err := e.Launch(ctx, id, spec, containerizer.LaunchOptions{})
	switch {
	case kind == 4:
		if !errors.Is(err, containerizer.ErrCommandNotFound) {
			return fmt.Errorf("launch of a command that is not there: %w", err)
		}
	case err != nil:
		return err
	}
	if err := n.middle(ctx, id, kind); err != nil {
		return errors.Join(err, e.Destroy(ctx, id))
	}
	if err := e.Destroy(ctx, id); err != nil {
		return err
	}
	if s, err := e.Status(ctx, id); !errors.Is(err, containerizer.ErrNotFound) {
		return fmt.Errorf("destroyed, it is %+v: %w", s, err)
	}
	return nil
}

// middle is what happens to a container of some kind between its launch and its end.
func (n *node) middle(ctx context.Context, id containerizer.ContainerID, kind int) error {
	e := n.client.Containers
	switch kind {
	case 1, 2:
		t, err := e.Wait(ctx, id)
		if want := map[int]int{1: 0, 2: 7}[kind]; err == nil && t.ExitCode != want {
			return fmt.Errorf("it ended as %+v, want code %d", t, want)
		}
		return err
	case 5: // stopped and started again
		now := time.Duration(0)
		if err := e.Stop(ctx, id, &now); err != nil {
			return err
		}
		_, err := e.Start(ctx, id, containerizer.LaunchOptions{})
		return err
	case 6: // an exec, and a question
		p, err := e.Exec(ctx, id, &containerizer.Process{Args: []string{"true"}}, nil)
		if err != nil {
			return err
		}
		_, err = p.Wait(ctx)
		_, errUsage := e.Usage(ctx, id)
		return errors.Join(err, errUsage, p.Close())
	case 7: // a child
		child := n.spec("while :; do sleep 1000; done")
		child.Image, child.Network = nil, containerizer.Network{} // its parent's
		_, err := e.Launch(ctx, id.Child("child"), child, containerizer.LaunchOptions{})
		return err
	}
	return nil
}
