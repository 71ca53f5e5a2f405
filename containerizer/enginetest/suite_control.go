package enginetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// testGivenUp ends the caller's context: the operation must go on.
func testGivenUp(e *env) {
	id := e.id()
	ctx, cancel := context.WithTimeout(e.ctx, time.Microsecond)
	defer cancel()
	for ctx.Err() == nil {
		_, err := e.Launch(ctx, id, e.cfg.Spec("sleep 1000"), containerizer.LaunchOptions{})
		if err == nil {
			break // faster than the clock
		}
		e.wantErr("Launch after its deadline", err, context.DeadlineExceeded)
	}
	e.launch(id, e.cfg.Spec("sleep 1000")) // joins it, or begins it
	e.wantState(id, containerizer.StateRunning)

	ctx, cancel = context.WithTimeout(e.ctx, 10*time.Millisecond)
	defer cancel()
	_, err := e.Wait(ctx, id)
	e.wantErr("Wait after its deadline", err, context.DeadlineExceeded)
	e.wantState(id, containerizer.StateRunning)
}

func testInvalid(e *env) {
	for name, spoil := range map[string]func(*containerizer.Spec){
		"name":        func(s *containerizer.Spec) { s.Name = "a b" },
		"class":       func(s *containerizer.Spec) { s.Class = "vm" },
		"environment": func(s *containerizer.Spec) { s.Process.Env = []string{"NOVALUE"} },
		"NUL":         func(s *containerizer.Spec) { s.Process.Args = []string{"a\x00b"} },
		"working dir": func(s *containerizer.Spec) { s.Process.WorkingDir = "relative" },
		"user":        func(s *containerizer.Spec) { s.Process.User = ":0" },
		"stop signal": func(s *containerizer.Spec) { s.StopSignal = "SIGNOPE" },
		"mount": func(s *containerizer.Spec) {
			s.Mounts = []containerizer.Mount{{Type: "bind", Source: "x", Destination: "/y"}}
		},
		"mount root":       func(s *containerizer.Spec) { s.Mounts = []containerizer.Mount{{Type: "tmpfs", Destination: "/"}} },
		"port":             func(s *containerizer.Spec) { s.Network.Ports = []containerizer.PortMapping{{Protocol: "tcp"}} },
		"mapping":          func(s *containerizer.Spec) { s.Namespaces.UIDMappings = []specs.LinuxIDMapping{{Size: 0}} },
		"namespace parent": func(s *containerizer.Spec) { s.Namespaces.IPC.Mode = containerizer.NamespaceParent },
		"negative log":     func(s *containerizer.Spec) { s.Log.MaxSizeBytes = -1 },
	} {
		spec := e.cfg.Spec("exit 0")
		spoil(spec)
		id := e.id()
		_, err := e.Launch(e.ctx, id, spec, containerizer.LaunchOptions{})
		e.wantErr("Launch with a bad "+name, err, containerizer.ErrInvalid)
		if err != nil && strings.Contains(err.Error(), "\n") {
			e.Errorf("the error for a bad %s has several lines: %v", name, err)
		}
		_, err = e.Status(e.ctx, id)
		e.wantErr("Status after a bad "+name, err, containerizer.ErrNotFound)
	}
	for _, id := range []containerizer.ContainerID{"", "a..b", "a/b", "../x", "a b", containerizer.ContainerID(strings.Repeat("x", 300))} {
		_, err := e.Launch(e.ctx, id, e.cfg.Spec("exit 0"), containerizer.LaunchOptions{})
		e.wantErr(fmt.Sprintf("Launch of id %.20q", id), err, containerizer.ErrInvalid)
		_, err = e.Status(e.ctx, id)
		e.wantErr(fmt.Sprintf("Status of id %.20q", id), err, containerizer.ErrInvalid)
	}
	_, err := e.Launch(e.ctx, e.id(), nil, containerizer.LaunchOptions{})
	e.wantErr("Launch of no spec", err, containerizer.ErrInvalid)
}

func testPause(e *env) {
	id := e.run("sleep 1000")
	if !e.cfg.Freezes {
		e.wantErr("Pause", e.Pause(e.ctx, id), containerizer.ErrUnsupported)
		return
	}
	e.must("Pause", e.Pause(e.ctx, id))
	e.wantState(id, containerizer.StatePaused)
	e.must("Pause of a paused container", e.Pause(e.ctx, id))
	_, err := e.Exec(e.ctx, id, &containerizer.Process{Args: []string{"/bin/sh", "-c", "exit 0"}}, nil)
	e.wantErr("Exec in a paused container", err, containerizer.ErrFailedPrecondition)
	e.must("Resume", e.Resume(e.ctx, id))
	e.wantState(id, containerizer.StateRunning)
	e.must("Pause", e.Pause(e.ctx, id))
	patience := 5 * time.Second
	e.must("Stop of a paused container", e.Stop(e.ctx, id, &patience))
	e.wantErr("Pause of an exited container", e.Pause(e.ctx, id), containerizer.ErrFailedPrecondition)

	id = e.run("sleep 1000")
	e.must("Pause", e.Pause(e.ctx, id))
	e.must("Destroy of a paused container", e.Destroy(e.ctx, id))
}

func testExec(e *env) {
	spec := e.cfg.Spec("sleep 1000")
	spec.Process.Env = []string{"A=container", "B=container"}
	id := e.id()
	e.launch(id, spec)
	var out buffer
	x, err := e.Exec(e.ctx, id, &containerizer.Process{
		Args: []string{"/bin/sh", "-c", `echo "$A $B"; exit 9`}, Env: []string{"B=session"},
	}, &containerizer.IO{Stdout: &out})
	e.must("Exec", err)
	e.must("Session.Wait", x.Session().Wait())
	t, err := x.Wait(e.ctx)
	e.must("Wait of the session", err)
	if t.ExitCode != 9 || out.String() != "container session\n" {
		e.Errorf("the session ended as %+v with output %q", t, out.String())
	}
	e.must("Close", x.Close())

	_, err = e.Exec(e.ctx, id, &containerizer.Process{Args: []string{"/no/such/command"}}, nil)
	e.wantErr("Exec of a missing command", err, containerizer.ErrCommandNotFound)
	_, err = e.Exec(e.ctx, id, &containerizer.Process{}, nil)
	e.wantErr("Exec of nothing", err, containerizer.ErrInvalid)
	e.wantState(id, containerizer.StateRunning)
}

func testAttach(e *env) {
	id := e.id()
	spec := e.cfg.Spec("read go; echo on; read go; echo off")
	spec.Process.Stdin = true
	var first, second buffer
	in := strings.NewReader("go\n")
	s1, err := e.Launch(e.ctx, id, spec, containerizer.LaunchOptions{Attach: &containerizer.IO{Stdin: in, Stdout: &first}})
	e.must("Launch", err)
	e.eventually("the first line", func() bool { return first.String() == "on\n" })
	s2, err := e.Attach(e.ctx, id, containerizer.IO{Stdin: strings.NewReader("go\n"), Stdout: &second})
	e.must("Attach", err)
	e.must("first Session.Wait", s1.Wait())
	e.must("second Session.Wait", s2.Wait())
	if first.String() != "on\noff\n" || !strings.HasSuffix(second.String(), "off\n") {
		e.Errorf("the first client saw %q, the second %q", first.String(), second.String())
	}
	e.wait(id)

	id = e.run("sleep 1000")
	s, err := e.Attach(e.ctx, id, containerizer.IO{Stdout: &first})
	e.must("Attach", err)
	s.Detach()
	s.Detach()
	_ = s.Wait() // returns; what it says is the launcher's matter
	e.wantState(id, containerizer.StateRunning)
}

func testUpdate(e *env) {
	id := e.run("sleep 1000")
	limit := int64(64 << 20)
	r := &containerizer.Resources{Linux: specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}}
	e.must("Update", e.Update(e.ctx, id, r))
	if m := e.status(id).Spec.Resources.Linux.Memory; m == nil || m.Limit == nil || *m.Limit != limit {
		e.Errorf("memory after Update = %+v, want a limit of %d", m, limit)
	}
	small := int64(1)
	r.Linux.Memory = &specs.LinuxMemory{Limit: &small}
	e.wantErr("Update to nonsense", e.Update(e.ctx, id, r), containerizer.ErrInvalid)
	if m := e.status(id).Spec.Resources.Linux.Memory; *m.Limit != limit {
		e.Errorf("memory after a refused Update = %d, want %d", *m.Limit, limit)
	}
	e.wantErr("Update of nothing", e.Update(e.ctx, "enginetest-none", &containerizer.Resources{}), containerizer.ErrNotFound)
}

func testStatesRefuse(e *env) {
	id := e.run("exit 0")
	e.wait(id)
	_, err := e.Exec(e.ctx, id, &containerizer.Process{Args: []string{"/bin/sh"}}, nil)
	e.wantErr("Exec in an exited container", err, containerizer.ErrFailedPrecondition)
	_, err = e.Attach(e.ctx, id, containerizer.IO{})
	e.wantErr("Attach to an exited container", err, containerizer.ErrFailedPrecondition)
	e.wantErr("ReopenLog of an exited container", e.ReopenLog(e.ctx, id), containerizer.ErrFailedPrecondition)
	_, err = e.Usage(e.ctx, id)
	e.wantErr("Usage of an exited container", err, containerizer.ErrFailedPrecondition)
	const none = "enginetest-none"
	_, err = e.Exec(e.ctx, none, &containerizer.Process{Args: []string{"/bin/sh"}}, nil)
	e.wantErr("Exec in nothing", err, containerizer.ErrNotFound)
	_, err = e.Start(e.ctx, none, containerizer.LaunchOptions{})
	e.wantErr("Start of nothing", err, containerizer.ErrNotFound)
	_, err = e.Status(e.ctx, none)
	e.wantErr("Status of nothing", err, containerizer.ErrNotFound)
	e.wantErr("ReopenLog of nothing", e.ReopenLog(e.ctx, none), containerizer.ErrNotFound)
}

func testList(e *env) {
	a, b := e.id(), e.id()
	spec := e.cfg.Spec("sleep 1000")
	spec.Labels = map[string]string{"app": "one", "enginetest": "list"}
	e.launch(a, spec)
	spec = e.cfg.Spec("exit 0")
	spec.Labels = map[string]string{"app": "two", "enginetest": "list"}
	e.launch(b, spec)
	e.wait(b)
	e.launch(a.Child("child"), e.cfg.Child("sleep 1000"))
	for _, c := range []struct {
		name   string
		filter containerizer.Filter
		want   []containerizer.ContainerID
	}{
		{"label", containerizer.Filter{Labels: map[string]string{"enginetest": ""}}, []containerizer.ContainerID{a, b}},
		{"value", containerizer.Filter{Labels: map[string]string{"enginetest": "list", "app": "two"}}, []containerizer.ContainerID{b}},
		{"other value", containerizer.Filter{Labels: map[string]string{"enginetest": "x"}}, nil},
		{"state", containerizer.Filter{Labels: map[string]string{"enginetest": ""}, States: []containerizer.State{containerizer.StateExited}}, []containerizer.ContainerID{b}},
		{"tree", containerizer.Filter{Root: a}, []containerizer.ContainerID{a, a.Child("child")}},
		{"no tree", containerizer.Filter{Root: "enginetest-none"}, nil},
	} {
		got, err := e.List(e.ctx, c.filter)
		e.must("List by "+c.name, err)
		var ids []containerizer.ContainerID
		for _, s := range got {
			ids = append(ids, s.ID)
		}
		if !slices.Equal(ids, c.want) {
			e.Errorf("List by %s = %q, want %q", c.name, ids, c.want)
		}
	}
}

func testMeasures(e *env) {
	id := e.run("sleep 1000")
	u, err := e.Usage(e.ctx, id)
	e.must("Usage", err)
	if u.At.IsZero() {
		e.Error("Usage has no time")
	}
	pids, err := e.Processes(e.ctx, id)
	e.must("Processes", err)
	if s := e.status(id); !slices.Contains(pids, s.PID) {
		e.Errorf("Processes = %v, want %d among them", pids, s.PID)
	}
}

func testEvents(e *env) {
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	events, err := e.Events(ctx, 0)
	e.must("Events", err)
	id := e.run("exit 6")
	e.wait(id)
	e.must("Destroy", e.Destroy(e.ctx, id))
	want := []containerizer.EventType{
		containerizer.EventCreated, containerizer.EventStarted, containerizer.EventExited, containerizer.EventDestroyed,
	}
	var started, last uint64
	for _, typ := range want {
		ev := e.nextEvent(events, id)
		if ev.Type != typ || ev.At.IsZero() {
			e.Errorf("event = %+v, want %s with a time", ev, typ)
		}
		if ev.Sequence <= last {
			e.Errorf("event %+v has a sequence number that is not above %d", ev, last)
		}
		last = ev.Sequence
		if ev.Type == containerizer.EventStarted {
			started = ev.Sequence
		}
		if ev.Type == containerizer.EventExited && (ev.Termination == nil || ev.Termination.ExitCode != 6) {
			e.Errorf("exited event with %+v", ev.Termination)
		}
	}
	cancel()
	for range events { // it is closed
	}
	e.resumeEvents(id, started)
}

// nextEvent is the next of container id.
func (e *env) nextEvent(events <-chan containerizer.Event, id containerizer.ContainerID) containerizer.Event {
	e.Helper()
	for {
		select {
		case ev, open := <-events:
			if !open {
				e.Fatal("the channel was closed early")
			}
			if ev.ID == id {
				return ev
			}
		case <-e.ctx.Done():
			e.Fatalf("waited in vain for an event of %q", id)
		}
	}
}

// resumeEvents reads on from an event in the past, by the next engine.
func (e *env) resumeEvents(id containerizer.ContainerID, after uint64) {
	e.Helper()
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	events, err := e.another().Events(ctx, after)
	e.must("Events after one", err)
	for _, want := range []containerizer.EventType{containerizer.EventExited, containerizer.EventDestroyed} {
		ev := e.nextEvent(events, id)
		if ev.Type != want || ev.Sequence <= after {
			e.Errorf("after event %d comes %+v, want %s", after, ev, want)
		}
	}
	cancel()
	for range events { // it is closed
	}
	_, err = e.Events(e.ctx, 1)
	e.wantErr("Events after a forgotten one", err, containerizer.ErrNotFound)
}

func testNextEngine(e *env) {
	id := e.run(forever)
	next := e.another()
	s, err := next.Status(e.ctx, id)
	e.must("Status by the next engine", err)
	if s.State != containerizer.StateRunning || s.PID != e.status(id).PID {
		e.Errorf("the next engine sees %+v", s)
	}
	x, err := next.Exec(e.ctx, id, &containerizer.Process{Args: []string{"/bin/sh", "-c", "exit 2"}}, nil)
	e.must("Exec by the next engine", err)
	if t, err := x.Wait(e.ctx); err != nil || t.ExitCode != 2 {
		e.Errorf("the session ended as %+v, %v", t, err)
	}
	waited := make(chan *containerizer.Termination, 1)
	go func() {
		t, _ := e.Wait(e.ctx, id) // nil is checked below
		waited <- t
	}()
	e.must("Stop by the next engine", next.Stop(e.ctx, id, nil))
	if t := <-waited; t == nil {
		e.Error("Wait by the first engine has no termination")
	}
	e.must("Destroy by the next engine", next.Destroy(e.ctx, id))
	_, err = e.Status(e.ctx, id)
	e.wantErr("Status by the first engine", err, containerizer.ErrNotFound)
}

func testParallel(e *env) {
	const containers = 24
	errs := make([]error, containers)
	var wg sync.WaitGroup
	for i := range errs {
		id := e.id()
		wg.Go(func() {
			spec := e.cfg.Spec(fmt.Sprintf("exit %d", i))
			spec.AutoRemove = i%2 == 0
			if _, err := e.Launch(e.ctx, id, spec, containerizer.LaunchOptions{}); err != nil {
				errs[i] = err
				return
			}
			t, err := e.Wait(e.ctx, id)
			if err == nil && t.ExitCode != i {
				err = fmt.Errorf("container %d ended as %+v", i, t)
			}
			errs[i] = errors.Join(err, e.Destroy(e.ctx, id))
		})
	}
	wg.Wait()
	e.must("24 lives in parallel", errors.Join(errs...))
}

func testRecoverNothing(e *env) {
	id := e.run("sleep 1000")
	for _, repair := range []bool{false, true} {
		r, err := e.Recover(e.ctx, repair)
		e.must("Recover", err)
		if len(r.Repaired)+len(r.Owed) > 0 {
			e.Errorf("Recover(%t) of a healthy node found %+v", repair, r)
		}
	}
	e.wantState(id, containerizer.StateRunning)
}
