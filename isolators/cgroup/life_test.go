package cgroup_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/cgroup"
	"github.com/berth-dev/berth/isolators/isolatortest"
)

func newContainer(t *testing.T, spec *containerizer.Spec) *isolatortest.Fixture {
	t.Helper()
	return isolatortest.NewContainer(t, spec)
}

func newChild(t *testing.T, parent *isolatortest.Fixture, spec *containerizer.Spec) *isolatortest.Fixture {
	t.Helper()
	return isolatortest.NewChild(t, parent, spec)
}

func TestFreezeAndThaw(t *testing.T) {
	iso := newIsolator(t, cgroup.Options{Parent: newParent(t)})
	f := prepared(t, iso, &containerizer.Spec{})
	file := filepath.Join(t.TempDir(), "count")
	ready(t, f, "echo ready; while :; do echo x >> "+file+"; done")
	size := func() int64 {
		info, err := os.Stat(file)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	for range 3 {
		if err := iso.Freeze(t.Context(), f.Container); err != nil {
			t.Fatalf("Freeze = %v", err)
		}
		before := size()
		pause, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		<-pause.Done() // the time in which a running process would have written
		cancel()
		if after := size(); after != before {
			t.Fatalf("a frozen process wrote %d bytes", after-before)
		}
		if err := iso.Thaw(t.Context(), f.Container); err != nil {
			t.Fatalf("Thaw = %v", err)
		}
		eventually(t, "the process writes again", func() bool { return size() > before })
	}
}

func TestKillAll(t *testing.T) {
	for name, tt := range map[string]struct {
		script string
		freeze bool
	}{
		"one process":           {"echo ready; exec sleep 60", false},
		"one frozen process":    {"echo ready; exec sleep 60", true},
		"many processes":        {"for n in 1 2 3 4 5 6 7 8 9; do sleep 60 & done; echo ready; wait", false},
		"many frozen":           {"for n in 1 2 3 4 5 6 7 8 9; do sleep 60 & done; echo ready; wait", true},
		"processes that fork":   {"f() { while :; do (f) & sleep 0.01; done; }; echo ready; f", false},
		"signals are ignored":   {"trap '' TERM INT HUP; echo ready; while :; do sleep 1; done", false},
		"sessions of their own": {"setsid sleep 60 & setsid sleep 61 & echo ready; wait", false},
	} {
		t.Run(name, func(t *testing.T) {
			iso := newIsolator(t, cgroup.Options{Parent: newParent(t)})
			f := prepared(t, iso, limited(specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64(100))}}))
			ready(t, f, tt.script)
			if tt.freeze {
				if err := iso.Freeze(t.Context(), f.Container); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := iso.KillAll(ctx, f.Container); err != nil {
				t.Fatalf("KillAll = %v", err)
			}
			if left, err := iso.Processes(t.Context(), f.Container); err != nil || len(left) > 0 {
				t.Errorf("Processes after KillAll = %v, %v", left, err)
			}
			if err := iso.KillAll(ctx, f.Container); err != nil {
				t.Errorf("KillAll again = %v", err)
			}
		})
	}
}

// A container that is paused below a paused one is killed with it.
func TestKillAllBelow(t *testing.T) {
	iso := newIsolator(t, cgroup.Options{Parent: newParent(t)})
	root := prepared(t, iso, &containerizer.Spec{})
	child := newChild(t, root, &containerizer.Spec{})
	prepare(t, iso, child)
	ready(t, child, "sleep 60 & sleep 60 & echo ready; wait")
	if err := errors.Join(iso.Freeze(t.Context(), child.Container), iso.Freeze(t.Context(), root.Container)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := iso.KillAll(ctx, root.Container); err != nil {
		t.Fatalf("KillAll of the parent = %v", err)
	}
	if left, err := iso.Processes(t.Context(), child.Container); err != nil || len(left) > 0 {
		t.Errorf("Processes of the child = %v, %v", left, err)
	}
}

func TestProcesses(t *testing.T) {
	iso := newIsolator(t, cgroup.Options{Parent: newParent(t)})
	f := prepared(t, iso, &containerizer.Spec{})
	cmd := ready(t, f, "sleep 60 & echo ready; wait")
	got, err := iso.Processes(t.Context(), f.Container)
	if err != nil || len(got) != 2 || !slices.Contains(got, cmd.Process.Pid) {
		t.Errorf("Processes = %v, %v; want two, %d among them", got, err, cmd.Process.Pid)
	}
}

// Cleanup kills what nobody killed, also after the engine lost everything but the
// ledger.
func TestCleanupKills(t *testing.T) {
	iso := newIsolator(t, cgroup.Options{Parent: newParent(t)})
	f := prepared(t, iso, busySpec())
	cmd := ready(t, f, "sleep 60 & echo ready; wait")
	// Groups of the container's own making go too.
	sub := filepath.Join(groupDirs(f)[0], "made-inside")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := iso.Cleanup(t.Context(), f.Damaged()); err != nil {
		t.Fatalf("Cleanup = %v", err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the process ended well, want it killed")
	}
	if left := leftovers(t, f.ID); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestParallel(t *testing.T) {
	const containers = 64
	parent := newParent(t)
	iso := newIsolator(t, cgroup.Options{Parent: parent})
	var wg sync.WaitGroup
	errs := make([]error, containers)
	fixtures := make([]*isolatortest.Fixture, containers)
	for n := range containers {
		fixtures[n] = newContainer(t, busySpec())
		if n%2 == 0 {
			fixtures[n].Spec = &containerizer.Spec{} // with the default devices
		}
		wg.Go(func() {
			_, err := iso.Prepare(t.Context(), fixtures[n].Container)
			errs[n] = errors.Join(err, iso.Cleanup(t.Context(), fixtures[n].Container))
		})
	}
	wg.Wait()
	for n, f := range fixtures {
		if errs[n] != nil {
			t.Errorf("container %d: %v", n, errs[n])
		}
		if left := leftovers(t, f.ID); len(left) > 0 {
			t.Errorf("container %d left %q", n, left)
		}
	}
	for _, root := range roots(t) {
		left, err := filepath.Glob(root + parent + "/*/")
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range left {
			if name := filepath.Base(dir); !strings.HasPrefix(name, "devices.") || strings.Count(name, ".") != 1 {
				t.Errorf("left below the parent: %q", dir)
			}
		}
	}
}

// Parents that come and go with the containers of others, and what the first
// containers below a new parent make for all.
func TestParallelBelowNewParents(t *testing.T) {
	top := newParent(t)
	for round := range 10 {
		iso := newIsolator(t, cgroup.Options{Parent: fmt.Sprintf("%s/default%d", top, round)})
		var wg sync.WaitGroup
		errs := make([]error, 16)
		for n := range errs {
			f := newContainer(t, &containerizer.Spec{})
			if n%2 == 0 {
				f.Spec.CgroupParent = top + "/made/for"
			}
			wg.Go(func() {
				for range 4 {
					_, err := iso.Prepare(t.Context(), f.Container)
					errs[n] = errors.Join(errs[n], err, iso.Cleanup(t.Context(), f.Container))
				}
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for _, root := range roots(t) {
			if _, err := os.Stat(root + top + "/made"); err == nil {
				t.Errorf("round %d: %s%s/made is left", round, root, top)
			}
		}
	}
}

// A group that somebody else made is neither used nor removed.
func TestForeignGroup(t *testing.T) {
	parent := newParent(t)
	iso := newIsolator(t, cgroup.Options{Parent: parent, Owner: "one"})
	other := newIsolator(t, cgroup.Options{Parent: parent, Owner: "two"})
	f := prepared(t, iso, &containerizer.Spec{})

	ledger := &isolatortest.Ledger{}
	twin := *f.Container
	twin.Ledger = ledger
	_, err := other.Prepare(t.Context(), &twin)
	if !errors.Is(err, containerizer.ErrAlreadyExists) {
		t.Errorf("Prepare of a container whose group another one has = %v, want ErrAlreadyExists", err)
	}
	if held := ledger.All(); len(held) > 0 {
		t.Errorf("it still claims %q", held)
	}
	// As if it had been killed between the record and the directory.
	for _, name := range f.Ledger.Held("cgroup") {
		if err := ledger.Acquire("cgroup", name); err != nil {
			t.Fatal(err)
		}
	}
	if err := other.Cleanup(t.Context(), &twin); err != nil {
		t.Errorf("Cleanup of the twin = %v", err)
	}
	if held := ledger.All(); len(held) > 0 {
		t.Errorf("after Cleanup it still claims %q", held)
	}
	if got, want := len(leftovers(t, f.ID)), len(groupDirs(f)); got != want {
		t.Errorf("%d groups of the first container are left, want all %d", got, want)
	}
}

func TestRecover(t *testing.T) {
	parent := newParent(t)
	mine := newIsolator(t, cgroup.Options{Parent: parent, Owner: "one", OrphanAge: time.Nanosecond})
	orphan, live := prepared(t, mine, &containerizer.Spec{}), prepared(t, mine, busySpec())
	others := newIsolator(t, cgroup.Options{Parent: parent, Owner: "two"})
	foreign := prepared(t, others, &containerizer.Spec{})
	cmd := ready(t, orphan, "sleep 60 & echo ready; wait")

	patient := newIsolator(t, cgroup.Options{Parent: parent, Owner: "one"})
	if found, err := patient.Recover(t.Context(), nil); err != nil || len(found) > 0 {
		t.Errorf("Recover of groups younger than a minute = %q, %v; want none", found, err)
	}
	found, err := mine.Recover(t.Context(), []*containerizer.Container{live.Container})
	if err != nil || !slices.Equal(found, []containerizer.ContainerID{orphan.ID}) {
		t.Errorf("Recover = %q, %v; want just %q", found, err, orphan.ID)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the orphan's process was not killed")
	}
	for f, want := range map[*isolatortest.Fixture]bool{orphan: false, live: true, foreign: true} {
		if got := len(leftovers(t, f.ID)) > 0; got != want {
			t.Errorf("container %s has groups: %v, want %v", f.ID, got, want)
		}
	}
}
