package listing_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/listing"
)

func images() []containerizer.Image {
	d := func(s string) digest.Digest { return digest.FromString(s) }
	return []containerizer.Image{
		{},
		{Manifest: d("m"), Config: d("c"), Layers: []digest.Digest{d("l")}, SizeBytes: -1, Created: time.Unix(-5, 7).UTC()},
		{
			References: []string{"a", "b"}, Manifest: d("m2"), Index: d("i"), Config: d("c2"),
			Platform: v1.Platform{Architecture: "arm", OS: "linux", OSVersion: "1", OSFeatures: []string{"x"}, Variant: "v7"},
			Created:  time.Unix(1_700_000_000, 1).UTC(), Layers: []digest.Digest{d("1"), d("2")},
			Labels: map[string]string{"": "", "k": "v", "z": "\x00"}, SizeBytes: 1 << 50, SharedBytes: 12, Pinned: true,
		},
	}
}

func TestRoundTrip(t *testing.T) {
	for n := range images() {
		b := listing.Encode("stamp", images()[:n+1])
		got, ok := listing.Decode(bytes.Clone(b), "stamp")
		if !ok {
			t.Fatalf("%d images cannot be read", n+1)
		}
		if diff := cmp.Diff(images()[:n+1], got); diff != "" {
			t.Error(diff)
		}
	}
	if got, ok := listing.Decode(listing.Encode("", nil), ""); !ok || len(got) != 0 {
		t.Error("no images cannot be read")
	}
}

func TestDamage(t *testing.T) {
	b := listing.Encode("stamp", images())
	if _, ok := listing.Decode(bytes.Clone(b), "stamq"); ok {
		t.Error("another stamp was accepted")
	}
	for n := range b {
		if _, ok := listing.Decode(bytes.Clone(b[:n]), "stamp"); ok {
			t.Errorf("%d of %d bytes were accepted", n, len(b))
		}
		c := bytes.Clone(b)
		c[n] ^= 0x10
		if _, ok := listing.Decode(c, "stamp"); ok {
			t.Errorf("a wrong byte %d was accepted", n)
		}
	}
	if _, ok := listing.Decode(append(bytes.Clone(b), 0), "stamp"); ok {
		t.Error("a byte too many was accepted")
	}
}

// FuzzDecode has content with the right checksum that nobody wrote.
func FuzzDecode(f *testing.F) {
	for n := range images() {
		f.Add(listing.Encode("s", images()[:n+1])[20:])
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		all, ok := listing.Decode(listing.Seal(content), "s")
		if !ok {
			return
		}
		again, ok := listing.Decode(listing.Encode("s", all), "s")
		if diff := cmp.Diff(all, again); !ok || diff != "" {
			t.Error(fmt.Sprint("what was read is written otherwise: ", diff))
		}
	})
}
