package enginetest

import (
	"errors"
	"strings"
	"sync"

	"github.com/berth-dev/berth/containerizer"
)

func testChildren(e *env) {
	parent := e.run("sleep 1000")
	child, grandchild := parent.Child("child"), parent.Child("child").Child("deep")
	e.launch(child, e.cfg.Child("sleep 1000"))
	e.launch(grandchild, e.cfg.Child("exit 2"))
	if t := e.wait(grandchild); t.ExitCode != 2 {
		e.Errorf("the grandchild ended as %+v", t)
	}
	e.wantState(child, containerizer.StateRunning)
	e.must("Destroy of the child", e.Destroy(e.ctx, child))
	for _, id := range []containerizer.ContainerID{child, grandchild} {
		_, err := e.Status(e.ctx, id)
		e.wantErr("Status of "+string(id), err, containerizer.ErrNotFound)
	}
	e.wantState(parent, containerizer.StateRunning)

	e.launch(child, e.cfg.Child("sleep 1000"))
	e.must("Destroy of the parent", e.Destroy(e.ctx, parent))
	_, err := e.Status(e.ctx, child)
	e.wantErr("Status of the child", err, containerizer.ErrNotFound)
	if t := e.wait(child); t.Reason != containerizer.ReasonKilled {
		e.Errorf("the child ended as %+v, want it killed", t)
	}
}

func testOrphanChild(e *env) {
	parent := e.id()
	child := parent.Child("child")
	_, err := e.Launch(e.ctx, child, e.cfg.Child("exit 0"), containerizer.LaunchOptions{})
	e.wantErr("Launch below an unknown parent", err, containerizer.ErrNotFound)

	e.launch(parent, e.cfg.Spec("exit 0"))
	e.wait(parent)
	_, err = e.Launch(e.ctx, child, e.cfg.Child("exit 0"), containerizer.LaunchOptions{})
	e.wantErr("Launch below an exited parent", err, containerizer.ErrFailedPrecondition)
	_, err = e.Status(e.ctx, child)
	e.wantErr("Status of what was refused", err, containerizer.ErrNotFound)
}

func testParentExit(e *env) {
	parent := e.run("read line")
	e.eventually("the parent ends: it has no input", func() bool { return e.status(parent).State == containerizer.StateExited })
	e.wait(parent)

	parent = e.run("sleep 1000")
	child := parent.Child("child")
	e.launch(child, e.cfg.Child("sleep 1000"))
	e.must("Kill", e.Kill(e.ctx, parent, 9, false))
	e.wait(parent)
	e.wantState(child, containerizer.StateExited)
}

func testSandbox(e *env) {
	spec := e.cfg.Spec("")
	spec.Class, spec.Process = containerizer.ClassPodSandbox, containerizer.Process{}
	pod := e.id()
	e.launch(pod, spec)
	if s := e.wantState(pod, containerizer.StateRunning); s.PID != 0 || s.MonitorPID == 0 {
		e.Errorf("the sandbox has pid %d and monitor %d, want none and one", s.PID, s.MonitorPID)
	}
	a, b := pod.Child("a"), pod.Child("b")
	e.launch(a, e.cfg.Child("exit 1"))
	e.launch(b, e.cfg.Child(forever))
	if t := e.wait(a); t.ExitCode != 1 {
		e.Errorf("container a ended as %+v", t)
	}
	e.wantState(pod, containerizer.StateRunning)
	e.must("Stop of the sandbox", e.Stop(e.ctx, pod, nil))
	e.wantState(pod, containerizer.StateExited)
	e.wantState(b, containerizer.StateExited)
	e.must("Stop again", e.Stop(e.ctx, pod, nil))
}

func testNames(e *env) {
	first, second := e.id(), e.id()
	spec := e.cfg.Spec("exit 0")
	spec.Name = "enginetest-name"
	e.launch(first, spec)
	_, err := e.Launch(e.ctx, second, spec, containerizer.LaunchOptions{})
	e.wantErr("Launch with a name in use", err, containerizer.ErrAlreadyExists)
	_, err = e.Status(e.ctx, second)
	e.wantErr("Status of what was refused", err, containerizer.ErrNotFound)
	e.must("Destroy", e.Destroy(e.ctx, first))
	e.launch(second, spec)
	if id, err := e.ResolveID(e.ctx, spec.Name); err != nil || id != second {
		e.Errorf("ResolveID(%q) = %q, %v; want %q", spec.Name, id, err, second)
	}

	// Of many who want one name, one gets it.
	spec.Name = "enginetest-contested"
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		id := e.id()
		wg.Go(func() { _, errs[i] = e.Launch(e.ctx, id, spec, containerizer.LaunchOptions{}) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			e.wantErr("Launch with a contested name", err, containerizer.ErrAlreadyExists)
		}
	}
	if won != 1 {
		e.Errorf("%d containers have the same name", won)
	}
}

func testRename(e *env) {
	spec := e.cfg.Spec("sleep 1000")
	spec.Name = "enginetest-old"
	id := e.id()
	e.launch(id, spec)
	e.must("Rename", e.Rename(e.ctx, id, "enginetest-new"))
	if got, err := e.ResolveID(e.ctx, "enginetest-new"); err != nil || got != id {
		e.Errorf("ResolveID of the new name = %q, %v", got, err)
	}
	_, err := e.ResolveID(e.ctx, "enginetest-old")
	e.wantErr("ResolveID of the old name", err, containerizer.ErrNotFound)
	if s := e.status(id); s.Spec.Name != "enginetest-new" {
		e.Errorf("Status has name %q", s.Spec.Name)
	}
	other := e.id()
	spec.Name = "enginetest-old"
	e.launch(other, spec) // the old name is free
	e.wantErr("Rename to a name in use", e.Rename(e.ctx, other, "enginetest-new"), containerizer.ErrAlreadyExists)
	if got, err := e.ResolveID(e.ctx, "enginetest-old"); err != nil || got != other {
		e.Errorf("ResolveID after a refused Rename = %q, %v", got, err)
	}
	e.wantErr("Rename to nonsense", e.Rename(e.ctx, id, "no blanks"), containerizer.ErrInvalid)
	e.wantErr("Rename of nothing", e.Rename(e.ctx, "enginetest-none", "x"), containerizer.ErrNotFound)
}

func testResolve(e *env) {
	a := e.run("exit 0")
	b := containerizer.ContainerID(string(a) + "-more")
	e.ids = append(e.ids, b)
	e.launch(b, e.cfg.Spec("exit 0"))
	for in, want := range map[string]containerizer.ContainerID{
		string(a): a, string(b): b, string(b[:len(b)-1]): b,
	} {
		if got, err := e.ResolveID(e.ctx, in); err != nil || got != want {
			e.Errorf("ResolveID(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	_, err := e.ResolveID(e.ctx, string(a[:len(a)-1]))
	e.wantErr("ResolveID of an ambiguous prefix", err, containerizer.ErrInvalid)
	for _, in := range []string{"", "enginetest-none", "../etc", "a/b", "a\x00b", strings.Repeat("x", 5000)} {
		_, err = e.ResolveID(e.ctx, in)
		e.wantErr("ResolveID of nonsense", err, containerizer.ErrNotFound)
	}
}

func testLaunchTwice(e *env) {
	spec := e.cfg.Spec("sleep 1000")
	id := e.id()
	e.launch(id, spec)
	pid := e.status(id).PID
	e.launch(id, spec)
	if again := e.status(id).PID; again != pid {
		e.Errorf("the second Launch made another process: %d, then %d", pid, again)
	}
	_, err := e.Launch(e.ctx, id, e.cfg.Spec("exit 0"), containerizer.LaunchOptions{})
	e.wantErr("Launch of other content", err, containerizer.ErrAlreadyExists)
	e.wantErr("Prepare of other content", e.Prepare(e.ctx, id, e.cfg.Spec("exit 0")), containerizer.ErrAlreadyExists)
	_, err = e.Start(e.ctx, id, containerizer.LaunchOptions{})
	e.must("Start of a running container", err)
	e.wantState(id, containerizer.StateRunning)
}

func testLaunchTogether(e *env) {
	spec := e.cfg.Spec("sleep 1000")
	id := e.id()
	other := e.another()
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			if i%2 == 0 {
				_, errs[i] = e.Launch(e.ctx, id, spec, containerizer.LaunchOptions{})
			} else {
				_, errs[i] = other.Launch(e.ctx, id, spec, containerizer.LaunchOptions{})
			}
		})
	}
	wg.Wait()
	e.must("Launch together", errors.Join(errs...))
	if all, err := e.List(e.ctx, containerizer.Filter{Root: id}); err != nil || len(all) != 1 {
		e.Errorf("List = %d containers, %v; want one", len(all), err)
	}
}
