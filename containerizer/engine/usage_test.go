package engine_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/enginetest"
)

// TestUsageIsShared: a hundred readers at once cost one collection, and so do those
// that come right after it.
func TestUsageIsShared(t *testing.T) {
	n := newNode(t)
	n.opts.UsageShare = time.Hour
	var taken atomic.Int32
	begun, release := make(chan struct{}), make(chan struct{})
	n.first.On = func(_ context.Context, call string, _ *containerizer.Container) error {
		if call == "Usage" {
			if taken.Add(1) == 1 {
				close(begun)
			}
			<-release
		}
		return nil
	}
	e := n.engine(t)
	ctx := t.Context()
	if _, err := e.Launch(ctx, "c", spec("sleep 1000"), containerizer.LaunchOptions{}); err != nil {
		t.Fatal(err)
	}
	// Who began it does not want to wait; the others get the sample all the same.
	impatient, cancel := context.WithCancel(ctx)
	gone := make(chan error)
	go func() {
		_, err := e.Usage(impatient, "c")
		gone <- err
	}()
	<-begun
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("Usage of who does not wait = %v", err)
	}
	const readers = 100
	got := make([]*containerizer.Usage, readers)
	var wg sync.WaitGroup
	for i := range readers {
		wg.Go(func() {
			u, err := e.Usage(ctx, "c")
			if err != nil {
				t.Error(err)
				return
			}
			got[i] = u
		})
	}
	close(release)
	wg.Wait()
	again, err := e.Usage(ctx, "c")
	if err != nil {
		t.Fatal(err)
	}
	for i, u := range got {
		if u == nil || !u.At.Equal(again.At) || u.PIDs == nil {
			t.Errorf("reader %d got %+v, the last one %+v", i, u, again)
		}
	}
	if n := taken.Load(); n != 1 {
		t.Errorf("%d collections, want 1", n)
	}
	if err := e.Destroy(ctx, "c"); err != nil {
		t.Error(err)
	}
	if _, err := e.Usage(ctx, "c"); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("Usage of a container that is gone = %v", err)
	}
}

// TestUsageFailsAnew: an error is nobody's but those who waited for it.
func TestUsageFailsAnew(t *testing.T) {
	n := newNode(t)
	n.opts.UsageShare = time.Hour
	e := n.engine(t)
	ctx := t.Context()
	if _, err := e.Launch(ctx, "c", spec("sleep 1000"), containerizer.LaunchOptions{}); err != nil {
		t.Fatal(err)
	}
	n.first.On, n.last.On = failsOn("Usage"), failsOn("Usage")
	if _, err := e.Usage(ctx, "c"); !errors.Is(err, errTest) {
		t.Errorf("Usage = %v", err)
	}
	n.first.On, n.last.On = nil, nil
	if _, err := e.Usage(ctx, "c"); err != nil {
		t.Errorf("Usage once it works = %v", err)
	}
	if err := e.Destroy(ctx, "c"); err != nil {
		t.Error(err)
	}
}

// weighing is a provisioner that knows what was written.
type weighing struct{ *enginetest.Provisioner }

func (weighing) DiskUsage(_ context.Context, c *containerizer.Container) (*containerizer.DiskUsage, error) {
	if c.Rootfs == nil {
		return nil, os.ErrInvalid
	}
	return &containerizer.DiskUsage{Bytes: 5, Inodes: 2}, nil
}

// TestUsageOfExited: what a container wrote is known after its end, too.
func TestUsageOfExited(t *testing.T) {
	n := newNode(t)
	n.opts.Provisioner = weighing{n.provisioner}
	e := n.engine(t)
	ctx := t.Context()
	if _, err := e.Launch(ctx, "c", spec("exit 0"), containerizer.LaunchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Wait(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	u, err := e.Usage(ctx, "c")
	if err != nil || u.Disk == nil || u.Disk.Bytes != 5 || u.Disk.Inodes != 2 || u.PIDs != nil {
		t.Errorf("Usage of an exited container = %+v, %v; want the disk alone", u, err)
	}
	if err := e.Destroy(ctx, "c"); err != nil {
		t.Error(err)
	}
}
