package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/enginetest"
)

var errTest = errors.New("fault of the test")

// imageSpec runs script from the image that the provisioner knows.
func imageSpec(script string) *containerizer.Spec {
	s := spec(script)
	s.RootfsPath, s.Image = "", &containerizer.ImageSource{Reference: enginetest.Image}
	return s
}

// TestFailingParts fails each collaborator in turn: the launch says which, and
// nothing is left.
func TestFailingParts(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*node)
		want  []string
	}{
		"provisioner": {
			func(n *node) {
				n.provisioner.On = func(_ context.Context, call string, _ containerizer.ContainerID) error {
					return failOn("Provision", call)
				}
			}, []string{"provision image", enginetest.Image},
		},
		"first isolator": {func(n *node) { n.first.On = failsOn("Prepare") }, []string{"test/first"}},
		"last isolator":  {func(n *node) { n.last.On = failsOn("Prepare") }, []string{"test/last"}},
		"barrier": {
			func(n *node) { n.last.Info.Barrier, n.first.On = true, failsOn("Isolate") }, []string{"test/first"},
		},
		"conflict": {
			func(n *node) { n.first.Info = n.last.Info }, []string{"test/first", "test/last", "hostname"},
		},
		"launcher": {
			func(n *node) {
				n.launcher.OnLaunch = func(context.Context, *containerizer.Container) error { return errTest }
			}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			c.spoil(n)
			e := n.engine(t)
			s := imageSpec("exit 0")
			s.Name = "fails"
			_, err := e.Launch(t.Context(), "c", s, containerizer.LaunchOptions{})
			if err == nil || name != "conflict" && !errors.Is(err, errTest) {
				t.Fatalf("Launch = %v, want the fault", err)
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("Launch = %q, want %q in it", err, w)
				}
			}
			if left := n.leftovers(t); len(left) > 0 {
				t.Errorf("left on the node: %q", left)
			}
		})
	}
}

func failOn(want, call string) error {
	if call == want {
		return errTest
	}
	return nil
}

func failsOn(want string) func(context.Context, string, *containerizer.Container) error {
	return func(_ context.Context, call string, _ *containerizer.Container) error { return failOn(want, call) }
}

// TestFailedRestart fails the start of an exited container: it is exited as
// before, and can be started once the fault is gone.
func TestFailedRestart(t *testing.T) {
	n := newNode(t)
	e := n.engine(t)
	ctx := t.Context()
	if _, err := e.Launch(ctx, "c", imageSpec("exit 5"), containerizer.LaunchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Wait(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	if err := e.Reap(ctx, "c"); err != nil { // joins what Wait began
		t.Fatal(err)
	}
	n.last.On = failsOn("Prepare")
	if _, err := e.Start(ctx, "c", containerizer.LaunchOptions{}); !errors.Is(err, errTest) {
		t.Fatalf("Start = %v, want the fault", err)
	}
	s, err := e.Status(ctx, "c")
	if err != nil || s.State != containerizer.StateExited || s.Termination.ExitCode != 5 || len(s.Owed) > 0 {
		t.Fatalf("Status = %+v, %v; want exited with code 5", s, err)
	}
	n.last.On = nil
	if _, err := e.Start(ctx, "c", containerizer.LaunchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Wait(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	if err := e.Destroy(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	if left := n.leftovers(t); len(left) > 0 {
		t.Errorf("left on the node: %q", left)
	}
}

// TestOwed lets a cleanup fail: the container stays, says what it owes, and goes
// with the next try, whoever makes it.
func TestOwed(t *testing.T) {
	for name, try := range map[string]func(*testing.T, *node) error{
		"destroy": func(t *testing.T, n *node) error { t.Helper(); return n.engine(t).Destroy(t.Context(), "c") },
		"reap":    func(t *testing.T, n *node) error { t.Helper(); return n.engine(t).Reap(t.Context(), "c") },
		"recover": func(t *testing.T, n *node) error {
			t.Helper()
			r, err := n.engine(t).Recover(t.Context(), true)
			if len(r.Repaired) != 1 || len(r.Owed) > 0 {
				t.Errorf("Recover = %+v", r)
			}
			return err
		},
		"launch": func(t *testing.T, n *node) error {
			t.Helper()
			_, err := n.engine(t).Launch(t.Context(), "c", spec("exit 0"), containerizer.LaunchOptions{})
			return errors.Join(err, n.engine(t).Destroy(t.Context(), "c"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			ctx := t.Context()
			e := n.engine(t)
			if _, err := e.Launch(ctx, "c", imageSpec("exit 0"), containerizer.LaunchOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := e.Wait(ctx, "c"); err != nil {
				t.Fatal(err)
			}
			if err := e.Reap(ctx, "c"); err != nil { // joins what Wait began
				t.Fatal(err)
			}
			n.provisioner.On = func(_ context.Context, call string, _ containerizer.ContainerID) error {
				return failOn("Destroy", call)
			}
			if err := e.Destroy(ctx, "c"); !errors.Is(err, errTest) {
				t.Fatalf("Destroy = %v, want the fault", err)
			}
			s, err := e.Status(ctx, "c")
			if err != nil {
				t.Fatal(err)
			}
			want := []string{"root filesystem: " + errTest.Error()}
			if diff := cmp.Diff(want, s.Owed); diff != "" || s.State != containerizer.StateDestroying || s.Interrupted {
				t.Errorf("Status = %+v, owed (-want +got):\n%s", s, diff)
			}
			n.provisioner.On = nil
			if err := try(t, n); err != nil {
				t.Error(err)
			}
			if left := n.leftovers(t); len(left) > 0 {
				t.Errorf("left on the node: %q", left)
			}
		})
	}
}

// TestRunPays lets a cleanup fail after an exit, and Run retry it.
func TestRunPays(t *testing.T) {
	n := newNode(t)
	e := n.engine(t)
	fail := make(chan struct{})
	n.last.On = func(_ context.Context, call string, _ *containerizer.Container) error {
		select {
		case <-fail:
			return nil
		default:
			return failOn("Cleanup", call)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := e.Launch(ctx, "c", spec("exit 0"), containerizer.LaunchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Wait(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	if err := e.Reap(ctx, "c"); !errors.Is(err, errTest) {
		t.Fatalf("Reap = %v, want the fault", err)
	}
	if s, err := e.Status(ctx, "c"); err != nil || s.State != containerizer.StateExited || len(s.Owed) != 1 {
		t.Fatalf("Status = %+v, %v; want it exited, with a debt", s, err)
	}
	close(fail)
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	deadline := time.Now().Add(30 * time.Second)
	for {
		s, err := e.Status(ctx, "c")
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Owed) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still owed: %q", s.Owed)
		}
		time.Sleep(10 * time.Millisecond) // polling, with a deadline
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestDestroyCancelsLaunch destroys a container whose image takes for ever, from
// this process and from another engine.
func TestDestroyCancelsLaunch(t *testing.T) {
	for _, other := range []bool{false, true} {
		n := newNode(t)
		began := make(chan struct{})
		n.provisioner.On = func(ctx context.Context, call string, _ containerizer.ContainerID) error {
			if call != "Provision" {
				return nil
			}
			close(began)
			<-ctx.Done()
			return ctx.Err()
		}
		e := n.engine(t)
		launched := make(chan error, 1)
		go func() {
			_, err := e.Launch(t.Context(), "c", imageSpec("exit 0"), containerizer.LaunchOptions{})
			launched <- err
		}()
		<-began
		s, err := e.Status(t.Context(), "c")
		if err != nil || s.State != containerizer.StatePreparing || s.Interrupted {
			t.Errorf("Status during the launch = %+v, %v", s, err)
		}
		destroyer := e
		if other {
			destroyer = n.engine(t)
		}
		if err := destroyer.Destroy(t.Context(), "c"); err != nil {
			t.Errorf("Destroy = %v", err)
		}
		if err := <-launched; !errors.Is(err, containerizer.ErrFailedPrecondition) || !strings.Contains(err.Error(), "being destroyed") {
			t.Errorf("Launch = %v, want it to tell of the Destroy", err)
		}
		if left := n.leftovers(t); len(left) > 0 {
			t.Errorf("left on the node: %q", left)
		}
	}
}

// TestHungIsolator hangs one container: others and all readers go on, and the
// caller learns where it hangs.
func TestHungIsolator(t *testing.T) {
	n := newNode(t)
	hang, began := make(chan struct{}), make(chan struct{})
	n.last.On = func(_ context.Context, call string, c *containerizer.Container) error {
		if call == "Prepare" && c.ID == "hangs" {
			close(began)
			<-hang // it does not even heed its context
		}
		return nil
	}
	e := n.engine(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-began
		cancel()
	}()
	_, err := e.Launch(ctx, "hangs", spec("exit 0"), containerizer.LaunchOptions{})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "launch.isolator") {
		t.Errorf("Launch = %v, want the end of its context and the step", err)
	}
	if _, err := e.Launch(t.Context(), "other", spec("exit 0"), containerizer.LaunchOptions{}); err != nil {
		t.Errorf("Launch of another container = %v", err)
	}
	if all, err := e.List(t.Context(), containerizer.Filter{}); err != nil || len(all) != 2 {
		t.Errorf("List = %d containers, %v", len(all), err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := n.engine(t).Destroy(ctx, "hangs"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Destroy by another engine = %v, want the deadline", err)
	}
	close(hang)
	for _, id := range []containerizer.ContainerID{"hangs", "other"} {
		if err := e.Destroy(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if left := n.leftovers(t); len(left) > 0 {
		t.Errorf("left on the node: %q", left)
	}
}

// TestUpdateRollsBack lets the second of two isolators refuse.
func TestUpdateRollsBack(t *testing.T) {
	n := newNode(t)
	e := n.engine(t)
	ctx := t.Context()
	s := spec("sleep 1000")
	old, limit := int64(32<<20), int64(64<<20)
	s.Resources.Linux.Memory = memory(old)
	if _, err := e.Launch(ctx, "c", s, containerizer.LaunchOptions{}); err != nil {
		t.Fatal(err)
	}
	n.last.On = failsOn("Update")
	err := e.Update(ctx, "c", &containerizer.Resources{Linux: linuxMemory(limit)})
	if !errors.Is(err, errTest) {
		t.Fatalf("Update = %v, want the fault", err)
	}
	if got := readFile(t, n.first.Root, "c", "memory"); got != "33554432" {
		t.Errorf("the first isolator has %q, want the old limit back", got)
	}
	st, err := e.Status(ctx, "c")
	if err != nil || *st.Spec.Resources.Linux.Memory.Limit != old {
		t.Errorf("Status = %+v, %v; want the old limit", st, err)
	}
	if err := e.Destroy(ctx, "c"); err != nil {
		t.Error(err)
	}
}

// TestOOM checks that what an isolator knows of an exit is told.
func TestOOM(t *testing.T) {
	n := newNode(t)
	e := n.engine(t)
	ctx := t.Context()
	if _, err := e.Launch(ctx, "c", spec("touch "+n.first.Root+"/c/oom; kill -9 $$"), containerizer.LaunchOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := e.Wait(ctx, "c")
	if err != nil || !got.OOMKilled || got.Reason != containerizer.ReasonOOMKilled {
		t.Errorf("Wait = %+v, %v; want an OOM kill", got, err)
	}
	if err := e.Destroy(ctx, "c"); err != nil {
		t.Error(err)
	}
}
