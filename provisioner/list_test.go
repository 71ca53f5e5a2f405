package provisioner_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/provisioner/store"
)

// age has the store's records look as if they were written long ago: a list is only
// kept when the next change is sure to have another time.
func age(tb testing.TB, root string) {
	tb.Helper()
	old := time.Now().Add(-time.Hour)
	for _, dir := range []string{"images", "refs", "layers", "oci/blobs/sha256", "oci/blobs/sha512"} {
		if err := os.Chtimes(filepath.Join(root, dir), old, old); err != nil {
			tb.Fatal(err)
		}
	}
}

// fillRecords makes the records of n images of five layers, one of which all have.
func fillRecords(tb testing.TB, s *store.Store, n int) {
	tb.Helper()
	if err := s.Init(); err != nil {
		tb.Fatal(err)
	}
	for n := range n {
		m := digest.FromString(fmt.Sprint("manifest", n))
		i := &store.Image{Manifest: v1.Descriptor{Digest: m, Size: 1000}, ConfigID: v1.Descriptor{Digest: digest.FromString(fmt.Sprint("config", n))}}
		for l := range 5 {
			d := digest.FromString(fmt.Sprint("layer", l, n*min(l, 1)))
			i.Layers = append(i.Layers, store.ImageLayer{DiffID: d, Blob: v1.Descriptor{Digest: d}})
			i.Stack = append(i.Stack, store.LayerName(d))
		}
		name := fmt.Sprintf("registry.example/team/app%d:latest", n)
		if err := s.PutImage(i); err != nil {
			tb.Fatal(err)
		}
		if err := s.PutRef(&store.Ref{Name: name, Target: i.Manifest, Images: []store.RefImage{{Platform: "linux/amd64", Manifest: m}}}); err != nil {
			tb.Fatal(err)
		}
	}
}

// BenchmarkList lists 1000 images: from their records, and when nothing has changed
// since the last time.
func BenchmarkList(b *testing.B) {
	root := b.TempDir()
	fillRecords(b, store.New(root), 1000)
	p := open(b, root, newFakeFetcher())
	run := func(b *testing.B) {
		b.Helper()
		b.ReportAllocs()
		for b.Loop() {
			if list, err := p.List(b.Context()); err != nil || len(list) != 1000 {
				b.Fatalf("%d images, %v", len(list), err)
			}
		}
	}
	b.Run("records", run)
	age(b, root)
	b.Run("unchanged", run)
}

// TestListIsKept changes a store by and by, with a kept list each time.
func TestListIsKept(t *testing.T) {
	root := t.TempDir()
	s := store.New(root)
	fillRecords(t, s, 3)
	kept := filepath.Join(root, "listing")
	check := func(what string, want []string) {
		t.Helper()
		if err := os.Remove(kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		truth, err := open(t, root, newFakeFetcher()).List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		age(t, root)
		for range 2 { // writes it, reads it
			got, err := open(t, root, newFakeFetcher()).List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, i := range got {
				names = append(names, i.References...)
			}
			slices.Sort(names)
			if diff := cmp.Diff(want, names); diff != "" {
				t.Errorf("%s: names (-want +got):\n%s", what, diff)
			}
			if diff := cmp.Diff(truth, got); diff != "" {
				t.Errorf("%s: what is kept is something else (-records +kept):\n%s", what, diff)
			}
		}
		if _, err := os.Stat(kept); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	app := func(n int) string { return fmt.Sprintf("registry.example/team/app%d:latest", n) }
	check("three", []string{app(0), app(1), app(2)})
	if err := s.DropRef(app(1)); err != nil {
		t.Fatal(err)
	}
	check("a name less", []string{app(0), app(2)})
	if err := s.PutRef(&store.Ref{Name: "new", Images: []store.RefImage{{Platform: "linux/amd64", Manifest: digest.FromString("manifest1")}}}); err != nil {
		t.Fatal(err)
	}
	check("a name more", []string{"new", app(0), app(2)})
	if err := s.DropImage(digest.FromString("manifest0")); err != nil {
		t.Fatal(err)
	}
	check("an image less", []string{"new", app(2)})
}

// TestListDoesNotTrust has kept lists that are no good, and changes right after each
// other.
func TestListDoesNotTrust(t *testing.T) {
	root := t.TempDir()
	s := store.New(root)
	fillRecords(t, s, 2)
	p := open(t, root, newFakeFetcher())
	count := func(want int) {
		t.Helper()
		if list, err := p.List(t.Context()); err != nil || len(list) != want {
			t.Errorf("%d images, %v, want %d", len(list), err, want)
		}
	}
	count(2)
	if _, err := os.Stat(filepath.Join(root, "listing")); err == nil {
		t.Error("a list is kept although the next change could have the same time")
	}
	age(t, root)
	count(2)
	kept, err := os.ReadFile(filepath.Join(root, "listing"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DropImage(digest.FromString("manifest0")); err != nil {
		t.Fatal(err)
	}
	count(1)
	for _, broken := range [][]byte{nil, kept[:len(kept)/2], []byte("nonsense"), append(kept[:len(kept)-1:len(kept)-1], kept[len(kept)-1]+1), kept} {
		if err := os.WriteFile(filepath.Join(root, "listing"), broken, 0o600); err != nil {
			t.Fatal(err)
		}
		old := time.Now().Add(-2 * time.Hour) // another time than that of the list
		if err := os.Chtimes(filepath.Join(root, "images"), old, old); err != nil {
			t.Fatal(err)
		}
		count(1)
	}
}
