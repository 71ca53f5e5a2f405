package enginetest

import (
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

func testExitCodes(e *env) {
	for _, c := range []struct {
		script string
		code   int
		reason containerizer.Reason
	}{
		{"exit 0", 0, containerizer.ReasonCompleted},
		{"exit 7", 7, containerizer.ReasonError},
	} {
		id := e.run(c.script)
		t := e.wait(id)
		if t.ExitCode != c.code || t.Reason != c.reason || t.FinishedAt.IsZero() {
			e.Errorf("%q ended as %+v, want code %d, reason %q and a time", c.script, t, c.code, c.reason)
		}
		if again := e.wait(id); again.ExitCode != c.code {
			e.Errorf("second Wait = %+v", again)
		}
		s := e.wantState(id, containerizer.StateExited)
		if s.PID != 0 || s.Termination == nil || s.StartedAt.IsZero() || s.CreatedAt.IsZero() {
			e.Errorf("exited status = %+v, want no pid, a termination and times", s)
		}
		e.must("Destroy", e.Destroy(e.ctx, id))
		if t, err := e.Wait(e.ctx, id); err != nil || t.ExitCode != c.code {
			e.Errorf("Wait after Destroy = %+v, %v; want code %d", t, err, c.code)
		}
	}
	_, err := e.Wait(e.ctx, "enginetest-never-was")
	e.wantErr("Wait for an unknown id", err, containerizer.ErrNotFound)
}

func testOutput(e *env) {
	id := e.id()
	var out buffer
	s, err := e.Launch(e.ctx, id, e.cfg.Spec("echo first; sleep 0.05; echo last"), containerizer.LaunchOptions{
		Attach: &containerizer.IO{Stdout: &out},
	})
	e.must("Launch", err)
	if s == nil {
		e.Fatal("Launch with Attach returned no session")
	}
	e.must("Session.Wait", s.Wait())
	if got := out.String(); got != "first\nlast\n" {
		e.Errorf("output = %q", got)
	}
	if t := e.wait(id); t.ExitCode != 0 {
		e.Errorf("ended as %+v", t)
	}
}

func testInput(e *env) {
	id := e.id()
	spec := e.cfg.Spec(`read line; echo "got $line"`)
	spec.Process.Stdin = true
	var out buffer
	r, w := io.Pipe()
	s, err := e.Launch(e.ctx, id, spec, containerizer.LaunchOptions{Attach: &containerizer.IO{Stdin: r, Stdout: &out}})
	e.must("Launch", err)
	_, err = io.WriteString(w, "words\n")
	e.must("write", err)
	e.must("Session.Wait", s.Wait())
	e.must("close", w.Close())
	if got := out.String(); got != "got words\n" {
		e.Errorf("output = %q", got)
	}
	e.wait(id)
}

func testPrepareStart(e *env) {
	id := e.id()
	spec := e.cfg.Spec("echo ran")
	e.must("Prepare", e.Prepare(e.ctx, id, spec))
	e.wantState(id, containerizer.StateCreated)
	e.must("Prepare again", e.Prepare(e.ctx, id, spec))

	var out buffer
	s, err := e.Start(e.ctx, id, containerizer.LaunchOptions{Attach: &containerizer.IO{Stdout: &out}})
	e.must("Start", err)
	e.must("Session.Wait", s.Wait())
	if t := e.wait(id); t.ExitCode != 0 {
		e.Errorf("ended as %+v", t)
	}
	if got := out.String(); got != "ran\n" {
		e.Errorf("output = %q: the container must run once, after Start", got)
	}

	held := e.id()
	e.must("Prepare", e.Prepare(e.ctx, held, spec))
	e.must("Destroy of a created container", e.Destroy(e.ctx, held))
}

func testRestart(e *env) {
	id := e.run("exit 3")
	e.wait(id)
	for n := 1; n <= 2; n++ {
		_, err := e.Start(e.ctx, id, containerizer.LaunchOptions{})
		e.must("Start of an exited container", err)
		if t := e.wait(id); t.ExitCode != 3 {
			e.Errorf("start %d ended as %+v", n, t)
		}
		if s := e.status(id); s.RestartCount != n {
			e.Errorf("RestartCount = %d, want %d", s.RestartCount, n)
		}
	}
}

func testCommandNotFound(e *env) {
	spec := e.cfg.Spec("")
	spec.Process.Entrypoint, spec.Process.Args = []string{"/no/such/command"}, nil
	id := e.id()
	_, err := e.Launch(e.ctx, id, spec, containerizer.LaunchOptions{})
	e.wantErr("Launch of a missing command", err, containerizer.ErrCommandNotFound)
	s := e.wantState(id, containerizer.StateExited)
	if s.Termination == nil || s.Termination.ExitCode != 127 || s.Termination.Reason != containerizer.ReasonLaunchFailed {
		e.Errorf("termination = %+v, want code 127, launch-failed", s.Termination)
	}

	id = e.id()
	e.must("Prepare", e.Prepare(e.ctx, id, spec))
	_, err = e.Start(e.ctx, id, containerizer.LaunchOptions{})
	e.wantErr("Start of a missing command", err, containerizer.ErrCommandNotFound)
	e.wantState(id, containerizer.StateExited)

	spec.Process.Entrypoint = []string{"/etc/passwd"}
	id = e.id()
	_, err = e.Launch(e.ctx, id, spec, containerizer.LaunchOptions{})
	e.wantErr("Launch of a file that is no program", err, containerizer.ErrCommandNotExecutable)
	if t := e.wait(id); t.ExitCode != 126 {
		e.Errorf("ended as %+v, want code 126", t)
	}

	spec.AutoRemove = true
	id = e.id()
	_, err = e.Launch(e.ctx, id, spec, containerizer.LaunchOptions{})
	e.wantErr("Launch", err, containerizer.ErrCommandNotExecutable)
	_, err = e.Status(e.ctx, id)
	e.wantErr("Status of what was to be removed", err, containerizer.ErrNotFound)
}

func testKill(e *env) {
	id := e.run("sleep 1000")
	e.must("Kill", e.Kill(e.ctx, id, int(unix.SIGKILL), false))
	if t := e.wait(id); t.Signal != int(unix.SIGKILL) || t.ExitCode != 137 || t.Reason != containerizer.ReasonKilled {
		e.Errorf("ended as %+v, want signal 9, code 137, reason killed", t)
	}
	e.wantErr("Kill of an exited container", e.Kill(e.ctx, id, 9, false), containerizer.ErrFailedPrecondition)
	e.wantErr("Kill of an unknown container", e.Kill(e.ctx, "enginetest-none", 9, false), containerizer.ErrNotFound)

	id = e.run(forever)
	e.wantErr("Kill with signal 0", e.Kill(e.ctx, id, 0, false), containerizer.ErrInvalid)
	e.must("Kill of all", e.Kill(e.ctx, id, int(unix.SIGKILL), true))
	e.wait(id)
}

func testStop(e *env) {
	var out buffer
	id := e.id()
	script := "trap 'exit 5' TERM; echo ready; while :; do sleep 1000 & wait $!; kill $!; done"
	_, err := e.Launch(e.ctx, id, e.cfg.Spec(script), containerizer.LaunchOptions{Attach: &containerizer.IO{Stdout: &out}})
	e.must("Launch", err)
	e.eventually("the trap is set", func() bool { return strings.Contains(out.String(), "ready") })
	e.must("Stop", e.Stop(e.ctx, id, nil))
	s := e.wantState(id, containerizer.StateExited)
	if s.Termination.ExitCode != 5 {
		e.Errorf("ended as %+v, want code 5 from its trap", s.Termination)
	}
	e.must("Stop of an exited container", e.Stop(e.ctx, id, nil))
	e.wantErr("Stop of an unknown one", e.Stop(e.ctx, "enginetest-none", nil), containerizer.ErrNotFound)

	spec := e.cfg.Spec("trap 'exit 6' USR1; echo ready; while :; do sleep 1000 & wait $!; kill $!; done")
	spec.StopSignal = "usr1"
	id, out = e.id(), buffer{}
	_, err = e.Launch(e.ctx, id, spec, containerizer.LaunchOptions{Attach: &containerizer.IO{Stdout: &out}})
	e.must("Launch", err)
	e.eventually("the trap is set", func() bool { return strings.Contains(out.String(), "ready") })
	e.must("Stop", e.Stop(e.ctx, id, nil))
	if t := e.wait(id); t.ExitCode != 6 {
		e.Errorf("ended as %+v, want code 6 from the trap of its stop signal", t)
	}
}

func testStopKills(e *env) {
	var out buffer
	id := e.id()
	_, err := e.Launch(e.ctx, id, e.cfg.Spec("trap '' TERM; echo ready; while :; do sleep 1000; done"), containerizer.LaunchOptions{
		Attach: &containerizer.IO{Stdout: &out},
	})
	e.must("Launch", err)
	e.eventually("the trap is set", func() bool { return strings.Contains(out.String(), "ready") })
	patience := 50 * time.Millisecond
	e.must("Stop", e.Stop(e.ctx, id, &patience))
	if t := e.wait(id); t.Signal != int(unix.SIGKILL) || t.Reason != containerizer.ReasonKilled {
		e.Errorf("ended as %+v, want signal 9, reason killed", t)
	}
}

func testDestroy(e *env) {
	id := e.run("sleep 1000")
	waited := make(chan *containerizer.Termination, 1)
	go func() {
		t, _ := e.Wait(e.ctx, id) // nil is checked below
		waited <- t
	}()
	e.must("Destroy of a running container", e.Destroy(e.ctx, id))
	if t := <-waited; t == nil || t.Signal != int(unix.SIGKILL) || t.Reason != containerizer.ReasonKilled {
		e.Errorf("Wait during Destroy = %+v, want signal 9, reason killed", t)
	}
	_, err := e.Status(e.ctx, id)
	e.wantErr("Status after Destroy", err, containerizer.ErrNotFound)
	e.must("Destroy of what is gone", e.Destroy(e.ctx, id))
	e.must("Destroy of what never was", e.Destroy(e.ctx, "enginetest-never-was"))
	e.launch(id, e.cfg.Spec("exit 0")) // the id is free again
}

func testDestroyTogether(e *env) {
	id := e.run("sleep 1000")
	other := e.another()
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			if i%2 == 0 {
				errs[i] = e.Destroy(e.ctx, id)
			} else {
				errs[i] = other.Destroy(e.ctx, id)
			}
		})
	}
	wg.Wait()
	e.must("Destroy together", errors.Join(errs...))
}

func testAutoRemove(e *env) {
	spec := e.cfg.Spec("exit 4")
	spec.AutoRemove, spec.Name = true, "enginetest-auto"
	id := e.id()
	e.launch(id, spec)
	if t := e.wait(id); t.ExitCode != 4 {
		e.Errorf("ended as %+v", t)
	}
	e.eventually("the container is removed", func() bool {
		_, err := e.Status(e.ctx, id)
		return errors.Is(err, containerizer.ErrNotFound)
	})

	id = e.id() // nobody waits for this one
	e.launch(id, spec)
	if e.cfg.Reap != nil {
		e.cfg.Reap(e.T, id)
	}
	e.eventually("the container is removed", func() bool {
		_, err := e.Status(e.ctx, id)
		return errors.Is(err, containerizer.ErrNotFound)
	})
	if t := e.wait(id); t.ExitCode != 4 {
		e.Errorf("Wait after its removal = %+v", t)
	}
}
