package engine_test

import (
	"slices"
	"testing"

	"github.com/berth-dev/berth/containerizer"
)

// TestResidentSeesOthers: a resident engine lists what others made and changed, before
// its first list and after.
func TestResidentSeesOthers(t *testing.T) {
	n := newNode(t)
	other := n.engine(t)
	n.opts.Resident = true
	e := n.engine(t)
	list := func() (ids []containerizer.ContainerID, states []containerizer.State) {
		t.Helper()
		all, err := e.List(t.Context(), containerizer.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			ids, states = append(ids, s.ID), append(states, s.State)
		}
		return ids, states
	}
	want := func(what string, ids []containerizer.ContainerID, states ...containerizer.State) {
		t.Helper()
		gotIDs, gotStates := list()
		if !slices.Equal(gotIDs, ids) || !slices.Equal(gotStates, states) {
			t.Fatalf("%s: the list has %v %v, want %v %v", what, gotIDs, gotStates, ids, states)
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(other.Prepare(t.Context(), "a", spec("sleep 1000")))
	want("before the first list", []containerizer.ContainerID{"a"}, containerizer.StateCreated)
	do(other.Prepare(t.Context(), "b", spec("sleep 1000")))
	want("made by another", []containerizer.ContainerID{"a", "b"}, containerizer.StateCreated, containerizer.StateCreated)
	_, err := other.Start(t.Context(), "b", containerizer.LaunchOptions{})
	do(err)
	do(other.Prepare(t.Context(), "b.child", spec("sleep 1000")))
	want("started, with a child", []containerizer.ContainerID{"a", "b", "b.child"}, containerizer.StateCreated, containerizer.StateRunning, containerizer.StateCreated)
	do(other.Destroy(t.Context(), "b.child"))
	do(other.Prepare(t.Context(), "b.next", spec("sleep 1000")))
	do(other.Pause(t.Context(), "b"))
	want("another child", []containerizer.ContainerID{"a", "b", "b.next"}, containerizer.StateCreated, containerizer.StatePaused, containerizer.StateCreated)
	do(other.Destroy(t.Context(), "a"))
	do(other.Prepare(t.Context(), "a", spec("exit 0")))
	want("made anew", []containerizer.ContainerID{"b", "b.next", "a"}, containerizer.StatePaused, containerizer.StateCreated, containerizer.StateCreated)
	do(e.Destroy(t.Context(), "a"))
	do(e.Destroy(t.Context(), "b"))
	want("destroyed", nil)
}
