package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// artifacts is a fetcher that writes a file per artifact and counts.
type artifacts struct {
	mu    sync.Mutex
	calls int
	err   error
	// started, when set, is closed when a fetch begins, which then hangs.
	started chan struct{}
}

func (a *artifacts) Fetch(ctx context.Context, dir string, list []containerizer.Artifact, _ containerizer.FetchOptions) ([]containerizer.FetchedArtifact, error) {
	a.mu.Lock()
	a.calls++
	n, err, started := a.calls, a.err, a.started
	a.mu.Unlock()
	if started != nil {
		close(started)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for i := range list {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), fmt.Appendf(nil, "%s by call %d", list[i].URI, n), 0o600)
		}
	}
	return nil, err
}

// cat is a container that prints its first artifact.
func cat(t *testing.T, n *node, id containerizer.ContainerID) *containerizer.Spec {
	t.Helper()
	s := imageSpec("cat " + filepath.Join(n.state, "containers", string(id), "sandbox", "0"))
	s.Artifacts = []containerizer.Artifact{{URI: "file:///x"}}
	return s
}

// Artifacts are there before the process is, stay over a restart, and go with the
// container.
func TestArtifacts(t *testing.T) {
	n := newNode(t)
	a := &artifacts{}
	n.opts.Artifacts = a
	e := n.engine(t)
	run := func(f func() (containerizer.Session, error)) {
		t.Helper()
		if _, err := f(); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Wait(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	run(func() (containerizer.Session, error) {
		return e.Launch(t.Context(), "a", cat(t, n, "a"), containerizer.LaunchOptions{})
	})
	run(func() (containerizer.Session, error) { return e.Start(t.Context(), "a", containerizer.LaunchOptions{}) })
	if a.calls != 1 {
		t.Errorf("fetched %d times, want once", a.calls)
	}
	if st, err := e.Status(t.Context(), "a"); err != nil || st.Termination == nil || st.Termination.ExitCode != 0 {
		t.Errorf("the process has not found its artifact: %+v, %v", st, err)
	}
	if got := readFile(t, n.root, "sandboxes", "a", "files", "0"); got != "file:///x by call 1" {
		t.Errorf("the sandbox has %q", got)
	}
	if err := e.Destroy(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if left := n.leftovers(t); len(left) > 0 {
		t.Errorf("left on the node: %q", left)
	}
}

func TestArtifactsFail(t *testing.T) {
	n := newNode(t)
	a := &artifacts{err: fmt.Errorf("no such file: %w", containerizer.ErrNotFound)}
	launch := func(s *containerizer.Spec) error {
		_, err := n.engine(t).Launch(t.Context(), "a", s, containerizer.LaunchOptions{})
		return err
	}
	if err := launch(cat(t, n, "a")); !errors.Is(err, containerizer.ErrUnsupported) {
		t.Errorf("without a fetcher: %v", err)
	}
	n.opts.Artifacts = a
	if err := launch(cat(t, n, "a")); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("error %v", err)
	}
	bad := cat(t, n, "a")
	bad.Artifacts[0].Output = "../x"
	if err := launch(bad); !errors.Is(err, containerizer.ErrInvalid) || a.calls != 1 {
		t.Errorf("an output outside: %v, %d calls", err, a.calls)
	}
	many := cat(t, n, "a")
	many.Artifacts = make([]containerizer.Artifact, 1001)
	if err := launch(many); !errors.Is(err, containerizer.ErrInvalid) {
		t.Errorf("1001 artifacts: %v", err)
	}
	if left := n.leftovers(t); len(left) > 0 {
		t.Errorf("left on the node: %q", left)
	}
}

// Destroying a container that is being fetched for ends the fetch.
func TestDestroyWhileFetching(t *testing.T) {
	n := newNode(t)
	a := &artifacts{started: make(chan struct{})}
	n.opts.Artifacts = a
	e := n.engine(t)
	done := make(chan error)
	go func() {
		_, err := e.Launch(t.Context(), "a", cat(t, n, "a"), containerizer.LaunchOptions{})
		done <- err
	}()
	<-a.started
	if err := e.Destroy(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("the launch has succeeded")
	}
	if left := n.leftovers(t); len(left) > 0 {
		t.Errorf("left on the node: %q", left)
	}
}

// After a reboot the sandbox of what is gone is removed, and that of what stays is
// fetched into again.
func TestArtifactsAfterReboot(t *testing.T) {
	n := newNode(t)
	a := &artifacts{}
	n.opts.Artifacts = a
	e := n.engine(t)
	gone := cat(t, n, "gone")
	gone.AutoRemove = true
	gone.Process.Args[2] = "sleep 1000"
	for id, s := range map[containerizer.ContainerID]*containerizer.Spec{"gone": gone, "stays": cat(t, n, "stays")} {
		if _, err := e.Launch(t.Context(), id, s, containerizer.LaunchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.Wait(t.Context(), "stays"); err != nil {
		t.Fatal(err)
	}
	killFor(t, n, "gone", "stays") // the monitors, too: they write into their folders
	for _, d := range []string{n.state, n.first.Root, n.last.Root, n.provisioner.Root} {
		err := os.RemoveAll(d)
		for end := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(end); { // a monitor may be at its very end
			err = os.RemoveAll(d)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	nodeAt(t, filepath.Dir(n.state))
	marker := filepath.Join(n.root, "sandboxes", "stays", "fetched")
	if err := os.WriteFile(marker, []byte("another boot"), 0o600); err != nil {
		t.Fatal(err)
	}
	e = n.engine(t)
	if _, err := e.Start(t.Context(), "stays", containerizer.LaunchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Wait(t.Context(), "stays"); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, n.root, "sandboxes", "stays", "files", "0"); a.calls != 3 || got != "file:///x by call 3" {
		t.Errorf("%d calls, and %q", a.calls, got)
	}
	if _, err := os.Lstat(filepath.Join(n.root, "sandboxes", "gone")); err == nil {
		t.Error("the sandbox of the container that is gone is there")
	}
	if err := e.Destroy(t.Context(), "stays"); err != nil {
		t.Error(err)
	}
}
