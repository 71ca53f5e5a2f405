package provisioner_test

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner"
)

// Whoever reads waits for nobody who removes.
func TestInspectDoesNotWait(t *testing.T) {
	f := newFakeFetcher()
	f.image("app", layerTar(t, "f a 1"))
	p, root := newStore(t, f)
	pulled := pullImage(t, p, "app")
	lock := lockFile(t, filepath.Join(root, "locks", "gc"))
	defer func() { _ = syscall.Close(lock) }()
	for _, name := range []string{"app", string(pulled.Manifest)} {
		// A context that has ended ends whoever waits.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if i, err := p.Inspect(ctx, name); err != nil || i.Manifest != pulled.Manifest || i.Configuration == nil {
			t.Errorf("inspect %q while something is removed: %+v, %v", name, i, err)
		}
	}
}

// What is removed and pulled while it is looked at is there, or not, and never in parts.
func TestInspectBesideRemoval(t *testing.T) {
	f := newFakeFetcher()
	f.image("app", layerTar(t, "f a 1"))
	p, _ := newStore(t, f)
	const rounds = 30
	var group sync.WaitGroup
	ended := make(chan struct{})
	group.Go(func() {
		defer close(ended)
		for range rounds {
			if _, err := p.Pull(t.Context(), containerizer.ImageSource{Reference: "app"}, containerizer.PullOptions{}); err != nil {
				t.Errorf("pull: %v", err)
			}
			if _, err := p.Remove(t.Context(), "app", true); err != nil {
				t.Errorf("remove: %v", err)
			}
		}
	})
	seen := 0
	for {
		select {
		case <-ended:
			group.Wait()
			t.Logf("seen %d times", seen)
			return
		default:
		}
		switch i, err := p.Inspect(t.Context(), "app"); {
		case err == nil && i.Configuration != nil:
			seen++
		case !errors.Is(err, containerizer.ErrNotFound):
			t.Fatalf("inspect: %+v, %v", i, err)
		}
	}
}

// An archive that nobody reads yet keeps its own blobs, and holds up no removal.
func TestSaveKeepsByLease(t *testing.T) {
	f := newFakeFetcher()
	f.image("app", layerTar(t, "f a 1"))
	f.image("other", layerTar(t, "f b 2"))
	p, _ := newStore(t, f)
	pullImage(t, p, "app")
	pullImage(t, p, "other")
	r, w := io.Pipe()
	saved := make(chan error, 1)
	go func() {
		err := p.Save(t.Context(), w, containerizer.ArchiveOCI, []string{"app"})
		saved <- errors.Join(err, w.CloseWithError(err))
	}()
	first := make([]byte, 1)
	if _, err := io.ReadFull(r, first); err != nil {
		t.Fatal(err)
	}
	// The archive has begun and stands still.
	report, err := p.Prune(t.Context(), containerizer.PruneOptions{All: true})
	if err != nil || len(report.Images) != 4 {
		t.Errorf("prune beside save: %+v, %v", report, err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Errorf("read the archive: %v", err)
	}
	if err := <-saved; err != nil {
		t.Errorf("save: %v", err)
	}
	// Nothing keeps the blobs any more.
	if _, err := p.Prune(t.Context(), containerizer.PruneOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	if u, err := p.Usage(t.Context()); err != nil || u.BlobBytes != 0 || u.Layers != 0 {
		t.Errorf("usage after all: %+v, %v", u, err)
	}
}

// lockFile takes a lock as another process would.
func lockFile(t *testing.T, path string) (fd int) {
	t.Helper()
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	return fd
}

func pullImage(t *testing.T, p *provisioner.Provisioner, name string) *containerizer.Image {
	t.Helper()
	i, err := p.Pull(t.Context(), containerizer.ImageSource{Reference: name}, containerizer.PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return i
}
