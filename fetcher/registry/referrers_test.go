package registry_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/registry"
	"github.com/berth-dev/berth/fetcher/registry/registrytest"
)

const signatures, lists = "application/vnd.example.signature", "application/vnd.example.list"

// referring puts a manifest that refers to an image.
func referring(t *testing.T, s *registrytest.Server, artifactType string, to v1.Descriptor) v1.Descriptor {
	t.Helper()
	m := v1.Manifest{MediaType: v1.MediaTypeImageManifest, ArtifactType: artifactType, Config: v1.DescriptorEmptyJSON, Subject: &to}
	m.SchemaVersion = 2
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	d := s.Manifest("org/app", "", v1.MediaTypeImageManifest, raw)
	d.ArtifactType = artifactType
	return d
}

// fallback puts the tag that clients keep where the registry does not know.
func fallback(t *testing.T, s *registrytest.Server, to digest.Digest, all ...v1.Descriptor) {
	t.Helper()
	index := v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: all}
	index.SchemaVersion = 2
	raw, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	s.Manifest("org/app", "sha256-"+to.Encoded(), v1.MediaTypeImageIndex, raw)
}

func TestReferrers(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(s *registrytest.Server, image, signature, list v1.Descriptor)
		want    int
		err     error
	}{
		"by the registry": {func(s *registrytest.Server, _, _, _ v1.Descriptor) { s.Referrers() }, 1, nil},
		"by a tag":        {func(s *registrytest.Server, i, sig, l v1.Descriptor) { fallback(t, s, i.Digest, l, sig) }, 1, nil},
		"by nothing":      {func(*registrytest.Server, v1.Descriptor, v1.Descriptor, v1.Descriptor) {}, 0, nil},
		"tag is ignored": {func(s *registrytest.Server, i, sig, _ v1.Descriptor) {
			s.Referrers()
			fallback(t, s, i.Digest, sig, sig)
		}, 1, nil},
		"not implemented": {func(s *registrytest.Server, i, sig, _ v1.Descriptor) {
			s.On(registrytest.Referring, registrytest.Status(501))
			fallback(t, s, i.Digest, sig)
		}, 1, nil},
		"method unknown": {func(s *registrytest.Server, i, sig, _ v1.Descriptor) {
			s.On(registrytest.Referring, registrytest.Status(405))
			fallback(t, s, i.Digest, sig)
		}, 1, nil},
		"down": {func(s *registrytest.Server, i, sig, _ v1.Descriptor) {
			s.On(registrytest.Referring, registrytest.Status(503))
			fallback(t, s, i.Digest, sig)
		}, 0, containerizer.ErrUnavailable},
		"down for a while": {func(s *registrytest.Server, _, _, _ v1.Descriptor) {
			s.Referrers()
			s.On(registrytest.Referring, registrytest.First(1, registrytest.Status(503)))
		}, 1, nil},
		"not for us": {func(s *registrytest.Server, _, _, _ v1.Descriptor) {
			s.Referrers()
			s.On(registrytest.Referring, registrytest.Status(401))
		}, 0, containerizer.ErrPermission},
		"no JSON": {func(s *registrytest.Server, _, _, _ v1.Descriptor) { s.On(registrytest.Referring, page("<html>")) }, 0, containerizer.ErrInvalid},
		"no index": {func(s *registrytest.Server, _, _, _ v1.Descriptor) {
			s.On(registrytest.Referring, page(`{"mediaType":"text/plain"}`))
		}, 0, containerizer.ErrInvalid},
		"too large": {func(s *registrytest.Server, _, _, _ v1.Descriptor) {
			s.On(registrytest.Referring, page(registrytest.Padding(9<<20)))
		}, 0, containerizer.ErrInvalid},
		"manifests only": {func(s *registrytest.Server, i, sig, _ v1.Descriptor) {
			sig.MediaType = v1.MediaTypeImageLayer
			fallback(t, s, i.Digest, sig)
		}, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := registrytest.New(t)
			image := s.Image(t, "org/app", "1", []byte("x")).Manifest
			signature, list := referring(t, s, signatures, image), referring(t, s, lists, image)
			c.prepare(s, image, signature, list)
			o := connect(t, client(registry.Options{}), parse(t, s.Host()+"/org/app:1"))
			got, err := o.Referrers(t.Context(), image.Digest, signatures, "application/vnd.example.other")
			if !errors.Is(err, c.err) || len(got) != c.want {
				t.Fatalf("got %v, %v; want %d, %v", got, err, c.want, c.err)
			}
			for _, d := range got {
				if d.Digest != signature.Digest {
					t.Errorf("got %+v", d)
				}
				if _, err := read(t.Context(), o, d); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// page answers with text.
func page(text string) registrytest.Fault {
	return func(_ *registrytest.Server, w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		_, _ = fmt.Fprint(w, text) // the client is gone, then
	}
}

// TestReferrersCapability asks only hosts that may be asked.
func TestReferrersCapability(t *testing.T) {
	m := newMirrored(t, 10, `capabilities = ["pull", "resolve"]`)
	m.mirror.Referrers()
	m.server.Referrers()
	referring(t, m.mirror, signatures, m.image.Manifest)
	o := m.connect(t, registry.Options{})
	got, err := o.Referrers(t.Context(), m.image.Manifest.Digest, signatures)
	if err != nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
	if n := m.mirror.Count(registrytest.Referring); n != 0 {
		t.Errorf("the mirror was asked %d times", n)
	}
	if _, err := o.Referrers(t.Context(), "sha256:x", signatures); !errors.Is(err, containerizer.ErrInvalid) {
		t.Errorf("no digest: %v", err)
	}
}
