package containerizer_test

import (
	"slices"
	"testing"

	"github.com/berth-dev/berth/containerizer"
)

const (
	none       = containerizer.State("")
	preparing  = containerizer.StatePreparing
	created    = containerizer.StateCreated
	running    = containerizer.StateRunning
	paused     = containerizer.StatePaused
	exited     = containerizer.StateExited
	destroying = containerizer.StateDestroying
	destroyed  = containerizer.StateDestroyed
)

// Every pair of states, against the arrows of the diagram.
func TestCanBecome(t *testing.T) {
	arrows := map[containerizer.State][]containerizer.State{
		none:       {preparing, destroying},
		preparing:  {created, running, exited, destroying},
		created:    {running, exited, destroying},
		running:    {paused, exited, destroying},
		paused:     {running, exited, destroying},
		exited:     {preparing, destroying},
		destroying: {destroying, destroyed},
		destroyed:  nil,
	}
	states := []containerizer.State{none, preparing, created, running, paused, exited, destroying, destroyed}
	for _, from := range states {
		for _, to := range append(states, "sleeping") {
			if got, want := from.CanBecome(to), slices.Contains(arrows[from], to); got != want {
				t.Errorf("from %q to %q: got %v, want %v", from, to, got, want)
			}
		}
	}
}

func TestAlive(t *testing.T) {
	for s, want := range map[containerizer.State]bool{
		none: false, preparing: false, created: true, running: true, paused: true, exited: false, destroying: false, destroyed: false,
	} {
		if got := s.Alive(); got != want {
			t.Errorf("%q is alive: got %v, want %v", s, got, want)
		}
	}
}

func TestLimitationString(t *testing.T) {
	l := containerizer.Limitation{Resource: "mem", Message: "32 MiB of 32 MiB used", Isolator: "cgroups/mem"}
	if got, want := l.String(), "mem limit: 32 MiB of 32 MiB used (cgroups/mem)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
