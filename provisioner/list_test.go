package provisioner_test

import (
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/provisioner/store"
)

// BenchmarkList lists 1000 images of five layers, one of which all have.
func BenchmarkList(b *testing.B) {
	root := b.TempDir()
	s := store.New(root)
	if err := s.Init(); err != nil {
		b.Fatal(err)
	}
	for n := range 1000 {
		m := digest.FromString(fmt.Sprint("manifest", n))
		i := &store.Image{Manifest: v1.Descriptor{Digest: m, Size: 1000}, ConfigID: v1.Descriptor{Digest: digest.FromString(fmt.Sprint("config", n))}}
		for l := range 5 {
			d := digest.FromString(fmt.Sprint("layer", l, n*min(l, 1)))
			i.Layers = append(i.Layers, store.ImageLayer{DiffID: d, Blob: v1.Descriptor{Digest: d}})
			i.Stack = append(i.Stack, store.LayerName(d))
		}
		name := fmt.Sprintf("registry.example/team/app%d:latest", n)
		if err := s.PutImage(i); err != nil {
			b.Fatal(err)
		}
		if err := s.PutRef(&store.Ref{Name: name, Target: i.Manifest, Images: []store.RefImage{{Platform: "linux/amd64", Manifest: m}}}); err != nil {
			b.Fatal(err)
		}
	}
	p := open(b, root, newFakeFetcher())
	b.ReportAllocs()
	for b.Loop() {
		if list, err := p.List(b.Context()); err != nil || len(list) != 1000 {
			b.Fatalf("%d images, %v", len(list), err)
		}
	}
}
