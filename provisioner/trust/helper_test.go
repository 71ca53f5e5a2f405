package trust_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/trust"
)

const (
	image  = "registry.example/team/app:1.0"
	repo   = "registry.example/team/app"
	other  = digest.Digest("sha256:0000000000000000000000000000000000000000000000000000000000000001")
	imaged = digest.Digest("sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
)

// registry holds signatures in memory.
type registry struct {
	tags     map[string][]byte
	blobs    map[digest.Digest][]byte
	referred map[digest.Digest][]v1.Descriptor
	asked    int
	down     error
	lost     error // of referrers
}

func newRegistry() *registry {
	return &registry{tags: map[string][]byte{}, blobs: map[digest.Digest][]byte{}, referred: map[digest.Digest][]v1.Descriptor{}}
}

// Referrers gives all of them, whatever is asked for.
func (r *registry) Referrers(_ context.Context, d digest.Digest, _ ...string) ([]v1.Descriptor, error) {
	return r.referred[d], r.lost
}

// refer puts a manifest that refers to d.
func (r *registry) refer(tb testing.TB, d digest.Digest, artifactType string, m *v1.Manifest) {
	tb.Helper()
	m.MediaType, m.ArtifactType, m.Subject = v1.MediaTypeImageManifest, artifactType, &v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: d, Size: 1}
	raw, err := json.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	desc := v1.Descriptor{MediaType: m.MediaType, ArtifactType: artifactType, Digest: digest.FromBytes(raw), Size: int64(len(raw)), Annotations: m.Annotations}
	r.blobs[desc.Digest] = raw
	r.referred[d] = append(r.referred[d], desc)
}

func (r *registry) connect(context.Context) (containerizer.ImageOrigin, error) {
	r.asked++
	return r, r.down
}

func (r *registry) Close() error { return nil }

func (r *registry) Resolve(context.Context) (v1.Descriptor, []byte, error) {
	return v1.Descriptor{}, nil, containerizer.ErrUnsupported
}

func (r *registry) ResolveTag(_ context.Context, tag string) (v1.Descriptor, []byte, error) {
	raw, ok := r.tags[tag]
	if !ok {
		return v1.Descriptor{}, nil, fmt.Errorf("tag %q: %w", tag, containerizer.ErrNotFound)
	}
	return v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, raw, nil
}

func (r *registry) Open(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	b, ok := r.blobs[d.Digest]
	if !ok {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, containerizer.ErrNotFound)
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// sigs is a manifest of signatures that can be spoilt before it is put.
type sigs struct{ layers []v1.Descriptor }

func (r *registry) add(s *sigs, payload []byte, annotations map[string]string) {
	d := digest.FromBytes(payload)
	r.blobs[d] = payload
	s.layers = append(s.layers, v1.Descriptor{
		MediaType: "application/vnd.dev.cosign.simplesigning.v1+json", Digest: d, Size: int64(len(payload)), Annotations: annotations,
	})
}

func (r *registry) put(tb testing.TB, of digest.Digest, s *sigs) {
	tb.Helper()
	raw, err := json.Marshal(v1.Manifest{MediaType: v1.MediaTypeImageManifest, Layers: s.layers})
	if err != nil {
		tb.Fatal(err)
	}
	r.tags["sha256-"+of.Encoded()+".sig"] = raw
}

// sign puts one good signature.
func (r *registry) sign(tb testing.TB, key crypto.Signer, of digest.Digest, name string) {
	tb.Helper()
	s := &sigs{}
	p := payload(of, name)
	r.add(s, p, signatureBy(tb, key, p))
	r.put(tb, of, s)
}

// payload is what cosign signs.
func payload(d digest.Digest, name string) []byte {
	return fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, name, d)
}

func signatureBy(tb testing.TB, key crypto.Signer, message []byte) map[string]string {
	tb.Helper()
	return map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(rawSignature(tb, key, message, crypto.SHA256))}
}

func rawSignature(tb testing.TB, key crypto.Signer, message []byte, o crypto.SignerOpts) []byte {
	tb.Helper()
	sum := sha256.Sum256(message)
	digest := sum[:]
	if _, ok := key.(ed25519.PrivateKey); ok {
		digest, o = message, crypto.Hash(0)
	}
	s, err := key.Sign(rand.Reader, digest, o)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func newKey(tb testing.TB) crypto.Signer {
	tb.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func keys(tb testing.TB) map[string]crypto.Signer {
	tb.Helper()
	p384, err1 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	_, ed, err2 := ed25519.GenerateKey(rand.Reader)
	r, err3 := rsa.GenerateKey(rand.Reader, 2048)
	if err1 != nil || err2 != nil || err3 != nil {
		tb.Fatal(err1, err2, err3)
	}
	return map[string]crypto.Signer{"P-256": newKey(tb), "P-384": p384, "Ed25519": ed, "RSA": r}
}

func pemOf(tb testing.TB, key any) []byte {
	tb.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func file(tb testing.TB, name string, content []byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// requires is a policy that wants a signature by key for everything, with more
// keys of the requirement.
func requires(tb testing.TB, key crypto.Signer, more string) string {
	tb.Helper()
	data := base64.StdEncoding.EncodeToString(pemOf(tb, key.Public()))
	return file(tb, "policy.json", fmt.Appendf(nil, `{"default":[{"type":"sigstoreSigned","keyData":%q%s}]}`, data, more))
}

const anyTag = `,"signedIdentity":{"type":"matchRepository"}`

func (r *registry) verify(tb testing.TB, policy, name string, d ...digest.Digest) error {
	tb.Helper()
	_, err := trust.Verifier{}.Verify(tb.Context(), policy, name, d, r.connect)
	return err
}
