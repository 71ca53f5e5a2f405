package provisioner_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
)

type digestOf = digest.Digest

func fromBytes(b []byte) digest.Digest { return digest.FromBytes(b) }

func TestImages(t *testing.T) {
	f := newFakeFetcher()
	base := layerTar(t, "f base "+strings.Repeat("x", 5000))
	f.image("one", base, layerTar(t, "f one 1"))
	f.image("two", base, layerTar(t, "f two 2"))
	p, root := newStore(t, f)
	ctx := t.Context()

	var phases []containerizer.Phase
	one, err := p.Pull(ctx, source("one"), containerizer.PullOptions{Progress: func(g containerizer.Progress) {
		if n := len(phases); n == 0 || phases[n-1] != g.Phase {
			phases = append(phases, g.Phase)
		}
		if g.Phase == "complete" && (g.Done != g.Total || g.Total == 0) {
			t.Errorf("progress %+v", g)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if phases[0] != "waiting" || phases[len(phases)-1] != "complete" {
		t.Errorf("phases %q", phases)
	}
	if one.Configuration == nil || one.Configuration.Config.Cmd[0] != "/bin/sh" || len(one.Layers) != 2 || one.SizeBytes < 8192 {
		t.Errorf("image %+v", one)
	}
	two, err := p.Pull(ctx, source("two"), containerizer.PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if two.SharedBytes < 8192 || two.SharedBytes >= two.SizeBytes {
		t.Errorf("shared %d of %d bytes", two.SharedBytes, two.SizeBytes)
	}
	for _, q := range []string{"one", string(one.Manifest), string(one.Config), one.Config.Encoded()[:12]} {
		got, err := p.Inspect(ctx, q)
		if err != nil || got.Manifest != one.Manifest {
			t.Errorf("Inspect(%q): %v", q, err)
		}
	}
	if _, err := p.Inspect(ctx, "none"); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("Inspect(none): %v", err)
	}
	if err := p.Tag(ctx, "one", "uno"); err != nil {
		t.Fatal(err)
	}
	if err := p.Tag(ctx, "none", "nada"); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("Tag(none): %v", err)
	}
	list, err := p.List(ctx)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d images, %v", len(list), err)
	}
	usage, err := p.Usage(ctx)
	if err != nil || usage.Images != 2 || usage.Layers != 3 || usage.LayerBytes == 0 || usage.BlobBytes == 0 || usage.ReclaimableBytes == 0 {
		t.Errorf("usage %+v, %v", usage, err)
	}

	// A name goes, the image stays; then the image is used, then it goes.
	rep, err := p.Remove(ctx, "uno", false)
	if err != nil || !cmp.Equal(rep.Images, []string{"uno"}) {
		t.Errorf("remove one of two names: %+v, %v", rep, err)
	}
	if _, err := p.Provision(ctx, "c", source("one")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Remove(ctx, "one", false); !errors.Is(err, containerizer.ErrFailedPrecondition) {
		t.Errorf("remove a used image: %v", err)
	}
	if _, err := p.Remove(ctx, "one", true); err != nil {
		t.Errorf("remove a used image by force: %v", err)
	}
	if got, err := p.Provision(ctx, "c", source("one")); err != nil || got.Manifest != one.Manifest {
		t.Errorf("the container lost its image: %v", err)
	}
	if rep, err := p.Prune(ctx, containerizer.PruneOptions{All: true}); err != nil || rep.Layers != 1 || !cmp.Equal(rep.Images, []string{"two", string(two.Manifest)}) {
		t.Errorf("prune with a container: %+v, %v", rep, err)
	}
	if err := p.Destroy(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	if rep, err := p.Prune(ctx, containerizer.PruneOptions{OlderThan: time.Hour}); err != nil || len(rep.Images) != 0 {
		t.Errorf("prune of old ones: %+v, %v", rep, err)
	}
	if rep, err := p.Prune(ctx, containerizer.PruneOptions{}); err != nil || rep.Layers != 2 || rep.ReclaimedBytes == 0 {
		t.Errorf("prune: %+v, %v", rep, err)
	}
	wantClean(t, p, root)
	for _, dir := range []string{"layers", "images", "refs", "oci/blobs/sha256"} {
		wantEmpty(t, filepath.Join(root, dir))
	}
}

func TestEmptyStore(t *testing.T) {
	p, root := newStore(t, newFakeFetcher())
	ctx := t.Context()
	if l, err := p.List(ctx); err != nil || len(l) != 0 {
		t.Errorf("list: %v, %v", l, err)
	}
	if u, err := p.Usage(ctx); err != nil || *u != (containerizer.StoreUsage{}) {
		t.Errorf("usage: %+v, %v", u, err)
	}
	if _, err := p.Prune(ctx, containerizer.PruneOptions{All: true}); err != nil {
		t.Errorf("prune: %v", err)
	}
	if r := check(t, p, true); len(r.Found)+len(r.Repaired) > 0 {
		t.Errorf("check: %+v", r)
	}
	if err := errors.Join(p.Sweep(ctx), p.Destroy(ctx, "none")); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"inspect": func() error { _, err := p.Inspect(ctx, "x"); return err }(),
		"remove":  func() error { _, err := p.Remove(ctx, "x", false); return err }(),
		"tag":     p.Tag(ctx, "x", "y"),
		"save":    p.Save(ctx, nil, containerizer.ArchiveOCI, []string{"x"}),
	} {
		if !errors.Is(err, containerizer.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Lstat(root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reading made the store: %v", err)
	}
}

func TestIndex(t *testing.T) {
	f := newFakeFetcher()
	mine := f.build(v1.Platform{OS: "linux", Architecture: "amd64"}, layerTar(t, "f arch amd64"))
	mine.Platform = &v1.Platform{OS: "linux", Architecture: "amd64"}
	other := f.build(v1.Platform{OS: "linux", Architecture: "s390x"}, layerTar(t, "f arch s390x"))
	other.Platform = &v1.Platform{OS: "linux", Architecture: "s390x"}
	x := v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{other, mine}}
	x.SchemaVersion = 2
	inner := f.putJSON(v1.MediaTypeImageIndex, x)
	outer := v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{inner}}
	outer.SchemaVersion = 2
	f.names["app"] = f.putJSON(v1.MediaTypeImageIndex, outer)
	p, root := newStore(t, f)
	for arch, want := range map[string]digest.Digest{"amd64": mine.Digest, "linux/s390x": other.Digest} {
		got, err := p.Provision(t.Context(), id("c"+strings.ReplaceAll(arch, "/", "-")), containerizer.ImageSource{Reference: "app", Platform: arch})
		if err != nil || got.Manifest != want {
			t.Errorf("%s: %+v, %v", arch, got, err)
		}
	}
	_, err := p.Pull(t.Context(), containerizer.ImageSource{Reference: "app", Platform: "linux/riscv64"}, containerizer.PullOptions{})
	if !errors.Is(err, containerizer.ErrNotFound) || !strings.Contains(err.Error(), "linux/s390x, linux/amd64") {
		t.Errorf("a platform that is not there: %v", err)
	}
	single := f.build(v1.Platform{OS: "linux", Architecture: "s390x"}, layerTar(t, "f a 1"))
	f.names["single"] = single
	if _, err := p.Pull(t.Context(), containerizer.ImageSource{Reference: "single", Platform: "amd64"}, containerizer.PullOptions{}); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("an image for another platform: %v", err)
	}
	wantClean(t, p, root)
}
