package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/enginetest"
)

// watching is an isolator that reports a limitation once it is told to.
type watching struct {
	*enginetest.Isolator
	hit chan containerizer.Limitation
}

func (w *watching) Watch(ctx context.Context, _ *containerizer.Container) (*containerizer.Limitation, error) {
	select {
	case l := <-w.hit:
		return &l, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestLimitation kills a container that runs into a limit, and says which.
func TestLimitation(t *testing.T) {
	n := newNode(t)
	w := &watching{n.last, make(chan containerizer.Limitation, 1)}
	n.opts.Isolators[2] = w
	e := n.engine(t)
	ctx := t.Context()
	if _, err := e.Launch(ctx, "c", spec("sleep 1000"), containerizer.LaunchOptions{}); err != nil {
		t.Fatal(err)
	}
	w.hit <- containerizer.Limitation{Resource: "disk", Message: "2 of 1 bytes"}
	got, err := e.Wait(ctx, "c")
	if err != nil {
		t.Fatal(err)
	}
	if got.Reason != containerizer.ReasonLimitation || got.Limitation == nil || got.Limitation.Isolator != "test/last" || got.Message != "disk limit: 2 of 1 bytes (test/last)" {
		t.Errorf("Wait = %+v with %+v, want the limitation", got, got.Limitation)
	}
	if err := e.Destroy(ctx, "c"); err != nil {
		t.Error(err)
	}
}

// TestNamespacePath asks for namespaces as an isolator does.
func TestNamespacePath(t *testing.T) {
	n := newNode(t)
	e := n.engine(t)
	ctx := t.Context()
	if _, err := e.Launch(ctx, "other", spec("sleep 1000"), containerizer.LaunchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Launch(ctx, "ended", spec("exit 0"), containerizer.LaunchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Wait(ctx, "ended"); err != nil {
		t.Fatal(err)
	}
	n.first.On = func(_ context.Context, call string, c *containerizer.Container) error {
		if call != "Prepare" {
			return nil
		}
		for kind, file := range map[specs.LinuxNamespaceType]string{
			specs.NetworkNamespace: "net", specs.MountNamespace: "mnt", specs.PIDNamespace: "pid", specs.UserNamespace: "user",
		} {
			path, err := c.NamespacePath("other", kind)
			if err != nil {
				return err
			}
			if link, err := os.Readlink(path); err != nil || !strings.HasPrefix(link, file+":") {
				return fmt.Errorf("%s is %q, %w", path, link, err)
			}
		}
		for id, want := range map[containerizer.ContainerID]error{
			"ended": containerizer.ErrFailedPrecondition, "none": containerizer.ErrNotFound,
		} {
			if _, err := c.NamespacePath(id, specs.NetworkNamespace); !errors.Is(err, want) {
				return fmt.Errorf("namespace of %q: %w, want %w", id, err, want)
			}
		}
		if _, err := c.NamespacePath("other", "odd"); !errors.Is(err, containerizer.ErrInvalid) {
			return fmt.Errorf("odd namespace: %w", err)
		}
		return nil
	}
	if _, err := e.Launch(ctx, "c", spec("exit 0"), containerizer.LaunchOptions{}); err != nil {
		t.Error(err)
	}
	for _, id := range []containerizer.ContainerID{"c", "other", "ended"} {
		if err := e.Destroy(ctx, id); err != nil {
			t.Error(err)
		}
	}
}

// TestAdjusters lets an isolator refuse: what it refuses does not happen, and leaves nothing.
func TestAdjusters(t *testing.T) {
	n := newNode(t)
	e := n.engine(t)
	ctx := t.Context()
	n.last.On = failsOn("Adjust")
	if _, err := e.Launch(ctx, "c", spec("sleep 1000"), containerizer.LaunchOptions{}); err == nil {
		t.Fatal("a container was launched that an isolator refuses")
	}
	if _, err := e.Status(ctx, "c"); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("what was refused: %v", err)
	}
	n.last.On = nil
	if err := e.Prepare(ctx, "c", spec("sleep 1000")); err != nil {
		t.Fatal(err)
	}
	n.last.On = failsOn("BeforeStart")
	if _, err := e.Start(ctx, "c", containerizer.LaunchOptions{}); err == nil {
		t.Error("a container was started that an isolator refuses")
	}
	n.last.On = nil
	if err := e.Destroy(ctx, "c"); err != nil {
		t.Error(err)
	}
}

// TestUsageOfSome measures what can be measured.
func TestUsageOfSome(t *testing.T) {
	n := newNode(t)
	n.opts.UsageShare = time.Nanosecond // each measures
	e := n.engine(t)
	ctx := t.Context()
	if _, err := e.Launch(ctx, "c", spec("sleep 1000"), containerizer.LaunchOptions{}); err != nil {
		t.Fatal(err)
	}
	n.first.On = failsOn("Usage")
	if u, err := e.Usage(ctx, "c"); err != nil || u.PIDs == nil {
		t.Errorf("Usage with one failing isolator = %+v, %v", u, err)
	}
	n.last.On = failsOn("Usage")
	if _, err := e.Usage(ctx, "c"); !errors.Is(err, errTest) {
		t.Errorf("Usage with only failing isolators = %v", err)
	}
	if err := e.Destroy(ctx, "c"); err != nil {
		t.Error(err)
	}
}

// TestNoFreezer does without: single processes are signalled.
func TestNoFreezer(t *testing.T) {
	n := newNode(t)
	n.opts.Isolators = []containerizer.Isolator{n.first}
	e := n.engine(t)
	ctx := t.Context()
	if _, err := e.Launch(ctx, "c", spec("sleep 1000"), containerizer.LaunchOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := e.Pause(ctx, "c"); !errors.Is(err, containerizer.ErrUnsupported) {
		t.Errorf("Pause = %v", err)
	}
	if pids, err := e.Processes(ctx, "c"); err != nil || len(pids) != 1 {
		t.Errorf("Processes = %v, %v", pids, err)
	}
	if err := e.Kill(ctx, "c", int(unix.SIGKILL), true); err != nil {
		t.Error(err)
	}
	if _, err := e.Wait(ctx, "c"); err != nil {
		t.Error(err)
	}
	if err := e.Destroy(ctx, "c"); err != nil {
		t.Error(err)
	}
}

// TestFullDisk fills the state folder: launches fail with one class of error and
// leave nothing visible, what runs can be removed, and then launches work again.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a small file system needs root")
	}
	n := newNode(t)
	if err := os.Mkdir(n.state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", n.state, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(n.state, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	e := n.engine(t)
	ctx := t.Context()
	if _, err := e.Launch(ctx, "first", spec("sleep 1000"), containerizer.LaunchOptions{}); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(n.state, "filler")
	for free := range 8 { // pages left: the disk is full at one place after the other
		if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("fill the disk: %v", err)
		}
		st, err := os.Stat(filler)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filler, st.Size()-int64(free*os.Getpagesize())); err != nil {
			t.Fatal(err)
		}
		id := containerizer.ContainerID(fmt.Sprintf("c%d", free))
		_, err = e.Launch(ctx, id, spec("exit 0"), containerizer.LaunchOptions{})
		if err != nil && !strings.Contains(err.Error(), "no space left") { // the monitor's comes as text
			t.Errorf("Launch with %d pages left = %v, want no space", free, err)
		}
		if err := e.Destroy(ctx, id); err != nil && !errors.Is(err, unix.ENOSPC) {
			t.Errorf("Destroy with %d pages left = %v", free, err)
		}
	}
	if err := e.Destroy(ctx, "first"); err != nil {
		t.Errorf("Destroy on a full disk = %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if r, err := e.Recover(ctx, true); err != nil || len(r.Owed) > 0 {
		t.Errorf("Recover = %+v, %v", r, err)
	}
	if left := n.leftovers(t); len(left) > 0 {
		t.Errorf("left on the node: %q", left)
	}
	if _, err := e.Launch(ctx, "again", spec("exit 0"), containerizer.LaunchOptions{}); err != nil {
		t.Error(err)
	}
	if err := e.Destroy(ctx, "again"); err != nil {
		t.Error(err)
	}
}
