package cgroup_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/cgroup"
	"github.com/berth-dev/berth/isolators/isolatortest"
)

// cgroupOf returns the path of a process in the hierarchy of a controller.
func cgroupOf(t *testing.T, pid int, controller string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(strings.TrimSpace(string(b))) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if unified(t) && f[1] == "" || !unified(t) && f[1] == controller {
			return f[2]
		}
	}
	t.Fatalf("process %d is in no group of %s:\n%s", pid, controller, b)
	return ""
}

func TestPlaces(t *testing.T) {
	parent := newParent(t)
	iso := newIsolator(t, cgroup.Options{Parent: parent})

	root := prepared(t, iso, &containerizer.Spec{})
	cmd := ready(t, root, "echo ready; exec sleep 60")
	base := root.ID.Base()
	if got, want := cgroupOf(t, cmd.Process.Pid, "memory"), parent+"/"+base; got != want {
		t.Errorf("a root is in %q, want %q", got, want)
	}

	child := newChild(t, root, limited(specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(32 << 20))}}))
	prepare(t, iso, child)
	below := ready(t, child, "echo ready; exec sleep 60")
	if got, want := cgroupOf(t, below.Process.Pid, "memory"), parent+"/"+base+"/child"; got != want {
		t.Errorf("a child is in %q, want %q", got, want)
	}
	file := "memory.limit_in_bytes"
	if unified(t) {
		file = "memory.max"
		// The root's process made room, and is still the root's.
		if got, want := cgroupOf(t, cmd.Process.Pid, ""), parent+"/"+base+"/init.leaf"; got != want {
			t.Errorf("the root's process is in %q, want %q", got, want)
		}
	}
	if got := control(t, child, file); got != strconv.Itoa(32<<20) {
		t.Errorf("%s of the child = %q", file, got)
	}
	all, err := iso.Processes(t.Context(), root.Container)
	if err != nil || len(all) != 2 {
		t.Errorf("Processes of the root = %v, %v; want its own and its child's", all, err)
	}

	grandchild := newChild(t, child, &containerizer.Spec{})
	prepare(t, iso, grandchild)
	deep := ready(t, grandchild, "echo ready; exec sleep 60")
	if got, want := cgroupOf(t, deep.Process.Pid, "memory"), parent+"/"+base+"/child/child"; got != want {
		t.Errorf("a grandchild is in %q, want %q", got, want)
	}
}

// The engine lends an isolator the ledger of the container, not of its parents:
// these are found by what they were launched with.
func TestParentWithoutLedger(t *testing.T) {
	parent := newParent(t)
	iso := newIsolator(t, cgroup.Options{Parent: parent})
	for name, spec := range map[string]*containerizer.Spec{
		"default devices": {}, "devices of its own": busySpec(), "sandbox": {Class: containerizer.ClassPodSandbox},
	} {
		t.Run(name, func(t *testing.T) {
			root := prepared(t, iso, spec)
			known := *root.Container
			known.Ledger = &isolatortest.Ledger{}
			for name, childSpec := range map[string]*containerizer.Spec{"nested": {}, "shared": {ShareCgroup: true}} {
				child := newChild(t, root, childSpec)
				child.ID, child.Parent = root.ID.Child(name), &known
				prepare(t, iso, child)
				cmd := ready(t, child, "echo ready; exec sleep 60")
				if got, want := cgroupOf(t, cmd.Process.Pid, "pids"), parent+"/"+root.ID.Base(); !strings.HasPrefix(got, want) {
					t.Errorf("the %s child is in %q, want below %q", name, got, want)
				}
			}
		})
	}
}

func TestShareCgroup(t *testing.T) {
	iso := newIsolator(t, cgroup.Options{Parent: newParent(t)})
	root := prepared(t, iso, &containerizer.Spec{})
	ready(t, root, "echo ready; exec sleep 60")
	sibling := newChild(t, root, &containerizer.Spec{})
	prepare(t, iso, sibling) // the root has a leaf now (version 2)

	shared := newChild(t, root, &containerizer.Spec{ShareCgroup: true})
	shared.ID = root.ID.Child("shared")
	prepare(t, iso, shared)
	cmd := ready(t, shared, "echo ready; exec sleep 60")
	all, err := iso.Processes(t.Context(), root.Container)
	if err != nil || len(all) != 2 {
		t.Errorf("Processes of the root = %v, %v; want its own and the sharing child's", all, err)
	}
	if err := iso.KillAll(t.Context(), shared.Container); err != nil {
		t.Errorf("KillAll of a sharing child = %v", err)
	}
	clean(t, iso, shared)
	if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the sharing child's process after its KillAll and Cleanup: %v; its parent's group is not its own", err)
	}
	for what, err := range map[string]error{
		"Freeze": iso.Freeze(t.Context(), shared.Container),
		"Update": iso.Update(t.Context(), shared.Container, &containerizer.Resources{}),
	} {
		if !errors.Is(err, containerizer.ErrUnsupported) {
			t.Errorf("%s of a sharing child = %v, want ErrUnsupported", what, err)
		}
	}
	limited := newChild(t, root, limited(specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64(5))}}))
	limited.Spec.ShareCgroup = true
	if _, err := iso.Prepare(t.Context(), limited.Container); !errors.Is(err, containerizer.ErrInvalid) {
		t.Errorf("Prepare of a sharing child with limits = %v, want ErrInvalid", err)
	}
}

// What the kubelet made stays; what berth made for a container goes with it.
func TestCgroupParent(t *testing.T) {
	top := newParent(t)
	iso := newIsolator(t, cgroup.Options{Parent: top + "/default"})
	kept := top + "/kubepods"
	for _, root := range roots(t) {
		if err := os.MkdirAll(root+kept, 0o755); err != nil && !unified(t) {
			continue // not a hierarchy
		}
	}
	count := func(path string) (n int) {
		for _, root := range roots(t) {
			if _, err := os.Stat(root + path); err == nil {
				n++
			}
		}
		return n
	}
	before := count(kept)

	pod := newContainer(t, &containerizer.Spec{CgroupParent: kept, Class: containerizer.ClassPodSandbox})
	prepare(t, iso, pod)
	child := newChild(t, pod, limited(specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64(9))}}))
	child.Spec.CgroupParent = kept
	prepare(t, iso, child)
	cmd := ready(t, child, "echo ready; exec sleep 60")
	if got, want := cgroupOf(t, cmd.Process.Pid, "pids"), kept+"/child"; got != want {
		t.Errorf("a container with a cgroup parent is in %q, want %q", got, want)
	}
	if got := control(t, child, "pids.max"); got != "9" {
		t.Errorf("pids.max = %q", got)
	}
	clean(t, iso, child)
	clean(t, iso, pod)
	if after := count(kept); after != before || before == 0 {
		t.Errorf("the given parent exists in %d hierarchies, before in %d", after, before)
	}

	made := top + "/made/for"
	var fixtures []*isolatortest.Fixture
	for range 2 {
		fixtures = append(fixtures, prepared(t, iso, &containerizer.Spec{CgroupParent: made}))
	}
	clean(t, iso, fixtures[0])
	if count(made) == 0 {
		t.Error("a parent that another container uses is gone")
	}
	clean(t, iso, fixtures[1])
	if n := count(top + "/made"); n > 0 {
		t.Errorf("a parent that berth made is left in %d hierarchies", n)
	}
	if n := count(top); n == 0 {
		t.Error("the way to the default parent is gone")
	}
}

// The process of a pod sandbox never keeps its children from having limits.
func TestPodSandbox(t *testing.T) {
	iso := newIsolator(t, cgroup.Options{Parent: newParent(t)})
	pod := prepared(t, iso, &containerizer.Spec{Class: containerizer.ClassPodSandbox})
	cmd := ready(t, pod, "echo ready; exec sleep 60")
	where := cgroupOf(t, cmd.Process.Pid, "memory")

	child := newChild(t, pod, busySpec())
	prepare(t, iso, child)
	ready(t, child, "echo ready; exec sleep 60")
	if now := cgroupOf(t, cmd.Process.Pid, "memory"); now != where {
		t.Errorf("the sandbox's process was moved from %q to %q", where, now)
	}
	privileged := newChild(t, pod, &containerizer.Spec{Security: containerizer.Security{Privileged: true}})
	privileged.ID = pod.ID.Child("privileged")
	prepare(t, iso, privileged)
	if err := script(t, privileged, "exec 3</dev/kmsg").Wait(); err != nil {
		t.Errorf("a privileged container of a pod cannot open a device: %v", err)
	}
}

// Ids that are names of control files work like others.
func TestNamesOfControlFiles(t *testing.T) {
	iso := newIsolator(t, cgroup.Options{Parent: newParent(t)})
	root := prepared(t, iso, &containerizer.Spec{})
	for _, name := range []string{"tasks", "notify_on_release", "release_agent"} {
		f := newChild(t, root, &containerizer.Spec{})
		f.ID = root.ID.Child(name)
		prepare(t, iso, f)
		if got := filepath.Base(groupDirs(f)[0]); got != name+".container" {
			t.Errorf("the group of %q is called %q", f.ID, got)
		}
	}
}

// With version 2, a parent that has processes of others cannot have groups with
// limits below it. Nothing of theirs is moved, and the message says what to do.
func TestCgroupParentWithProcesses(t *testing.T) {
	if !unified(t) {
		return // version 1 does not mind
	}
	top := newParent(t)
	iso := newIsolator(t, cgroup.Options{Parent: top})
	kept := prepared(t, iso, &containerizer.Spec{}) // so that top hands controllers down
	dir := filepath.Dir(kept.Launch.Cgroup.Unified) + "/foreign"
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	foreign := newContainer(t, &containerizer.Spec{})
	foreign.Launch = &containerizer.LaunchInfo{Cgroup: &containerizer.CgroupAttachment{Unified: dir}}
	cmd := ready(t, foreign, "echo ready; exec sleep 60")
	f := newContainer(t, &containerizer.Spec{CgroupParent: top + "/foreign"})
	_, err := iso.Prepare(t.Context(), f.Container)
	if !errors.Is(err, containerizer.ErrFailedPrecondition) || !strings.Contains(err.Error(), "has processes") {
		t.Errorf("Prepare = %v, want ErrFailedPrecondition that says why", err)
	}
	clean(t, iso, f)
	if got, want := cgroupOf(t, cmd.Process.Pid, ""), top+"/foreign"; got != want {
		t.Errorf("the foreign process was moved to %q", got)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
}
