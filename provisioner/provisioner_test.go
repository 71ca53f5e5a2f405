package provisioner_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner"
)

func backends() map[string]func(*provisioner.Options) {
	return map[string]func(*provisioner.Options){
		"overlay": func(o *provisioner.Options) { o.Backend = provisioner.BackendOverlay },
		"copy":    func(o *provisioner.Options) { o.Backend = provisioner.BackendCopy },
	}
}

func TestProvision(t *testing.T) {
	for name, backend := range backends() {
		t.Run(name, func(t *testing.T) {
			f := newFakeFetcher()
			d := f.image("app",
				layerTar(t, "d ./ 755", "d etc 755", "f etc/a one", "f etc/gone x", "d old 755", "f old/x 1"),
				layerTar(t, "d etc 750", "f etc/b two", "f etc/.wh.gone ", "f old/.wh..wh..opq ", "f old/y 2"),
			)
			p, _ := newStore(t, f, backend)
			got, err := p.Provision(t.Context(), "c1", source("app"))
			if err != nil {
				t.Fatal(err)
			}
			if got.Manifest != d.Digest || got.Reference != "app" || !cmp.Equal(got.Config.Cmd, []string{"/bin/sh"}) {
				t.Errorf("got %+v", got)
			}
			root := mountRootfs(t, got.Rootfs)
			want := []string{
				". drwxr-xr-x", "etc drwxr-x---", "etc/a -rw-r--r-- one", "etc/b -rw-r--r-- two", "old drwxr-xr-x", "old/y -rw-r--r-- 2",
			}
			if diff := cmp.Diff(want, shown(t, root)); diff != "" {
				t.Errorf("root filesystem (-want +got):\n%s", diff)
			}
			if err := os.WriteFile(filepath.Join(root, "new"), []byte("w"), 0o600); err != nil {
				t.Errorf("the root is not writable: %v", err)
			}
			again, err := p.Provision(t.Context(), "c1", source("app"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, again); diff != "" {
				t.Errorf("provisioned again (-first +second):\n%s", diff)
			}
			if _, err := p.Provision(t.Context(), "c1", source("other")); !errors.Is(err, containerizer.ErrAlreadyExists) {
				t.Errorf("another image for the same container: %v", err)
			}
		})
	}
}

func TestReadOnlyAndVolumes(t *testing.T) {
	f := newFakeFetcher()
	f.image("one", layerTar(t, "f a 1"))
	p, root := newStore(t, f)
	src := source("one")
	src.ReadOnly = true
	got, err := p.Provision(t.Context(), "c", src)
	if err != nil {
		t.Fatal(err)
	}
	if got.Rootfs.Upper != "" || len(got.Rootfs.Lower) != 2 {
		t.Errorf("rootfs %+v, want two lower directories and no upper one", got.Rootfs)
	}
	vol, err := p.ProvisionVolume(t.Context(), "c", 0, source("one"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{". drwxr-xr-x", "a -rw-r--r-- 1"}, shown(t, mountRootfs(t, vol.Rootfs))); diff != "" {
		t.Errorf("volume (-want +got):\n%s", diff)
	}
	if err := p.Destroy(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	if err := p.Destroy(t.Context(), "c"); err != nil {
		t.Errorf("destroyed again: %v", err)
	}
	wantEmpty(t, filepath.Join(root, "containers"))
	if err := p.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"trash", "stage", "leases", "ingest", "pending"} {
		wantEmpty(t, filepath.Join(root, dir))
	}
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != 0 {
		t.Errorf("%s is not empty: %v", dir, names)
	}
}

func TestPolicies(t *testing.T) {
	f := newFakeFetcher()
	first := f.image("app", layerTar(t, "f a 1"))
	p, _ := newStore(t, f)
	never := containerizer.ImageSource{Reference: "app", Pull: containerizer.PullNever}
	if _, err := p.Provision(t.Context(), "c", never); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("never, not there: %v", err)
	}
	provision := func(cid string, src containerizer.ImageSource) *containerizer.Provisioned {
		t.Helper()
		got, err := p.Provision(t.Context(), id(cid), src)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	provision("c1", source("app"))
	second := f.image("app", layerTar(t, "f a 2"))
	if got := provision("c2", source("app")); got.Manifest != first.Digest {
		t.Errorf("missing took %s", got.Manifest)
	}
	if got := provision("c3", never); got.Manifest != first.Digest {
		t.Errorf("never took %s", got.Manifest)
	}
	if got := provision("c4", containerizer.ImageSource{Reference: "app", Pull: containerizer.PullAlways}); got.Manifest != second.Digest {
		t.Errorf("always took %s", got.Manifest)
	}
	if got := provision("c5", source(string(first.Digest))); got.Manifest != first.Digest {
		t.Errorf("the digest took %s", got.Manifest)
	}
	if _, err := p.Provision(t.Context(), "c6", containerizer.ImageSource{Reference: "app", Pull: "sometimes"}); !errors.Is(err, containerizer.ErrInvalid) {
		t.Errorf("unknown policy: %v", err)
	}
	// A path is looked at each time.
	f.image("local:x", layerTar(t, "f a 1"))
	provision("l1", source("local:x"))
	third := f.image("local:x", layerTar(t, "f a 3"))
	if got := provision("l2", source("local:x")); got.Manifest != third.Digest {
		t.Errorf("the path took %s", got.Manifest)
	}
}

func TestRecover(t *testing.T) {
	f := newFakeFetcher()
	f.image("app", layerTar(t, "f a 1"))
	p, root := newStore(t, f)
	long := id("r" + strings.Repeat(".child", 60))
	for _, cid := range []containerizer.ContainerID{"live", "dead", long, long + "2"} {
		if _, err := p.Provision(t.Context(), cid, source("app")); err != nil {
			t.Fatal(err)
		}
	}
	orphans, err := p.Recover(t.Context(), []*containerizer.Container{{ID: "live"}, {ID: long}})
	slices.Sort(orphans)
	if err != nil || !cmp.Equal(orphans, []containerizer.ContainerID{"dead", long + "2"}) {
		t.Errorf("orphans %q, %v", orphans, err)
	}
	dirs, err := os.ReadDir(filepath.Join(root, "containers"))
	if err != nil || len(dirs) != 2 {
		t.Errorf("left are %v, %v", dirs, err)
	}
}

func BenchmarkProvision(b *testing.B) {
	needRoot(b)
	f := newFakeFetcher()
	f.image("app", layerTar(b, "f a 1"), layerTar(b, "f b 1"), layerTar(b, "f c 1"))
	p, err := provisioner.New(filepath.Join(b.TempDir(), "store"), f, provisioner.Options{UnpackCommand: unpackCommand()})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := p.Pull(context.Background(), source("app"), containerizer.PullOptions{}); err != nil {
		b.Fatal(err)
	}
	if err := p.Sweep(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		cid := containerizer.NewContainerID()
		if _, err := p.Provision(context.Background(), cid, source("app")); err != nil {
			b.Fatal(err)
		}
		if err := p.Destroy(context.Background(), cid); err != nil {
			b.Fatal(err)
		}
	}
}
