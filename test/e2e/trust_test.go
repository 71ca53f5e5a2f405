package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/berth-dev/berth/test/fixtures"
)

// signer signs as cosign does.
type signer struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	path string // of the public key
}

func newSigner(t *testing.T, dir, file string) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	s := &signer{t: t, key: key, path: filepath.Join(dir, file)}
	write(t, s.path, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	return s
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// sign puts the signature of an image beside it, under the name signed.
func (s *signer) sign(image v1.Image, repository, signed string) {
	s.t.Helper()
	d, err := image.Digest()
	if err != nil {
		s.t.Fatal(err)
	}
	payload := fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, signed, d)
	sum := sha256.Sum256(payload)
	signature, err := ecdsa.SignASN1(rand.Reader, s.key, sum[:])
	if err != nil {
		s.t.Fatal(err)
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	signatures, err := mutate.Append(base, mutate.Addendum{
		Layer:       static.NewLayer(payload, "application/vnd.dev.cosign.simplesigning.v1+json"),
		Annotations: map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(signature)},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	push(s.t, fmt.Sprintf("%s:sha256-%s.sig", repository, d.Hex), signatures)
}

func push(t *testing.T, reference string, image v1.Image) {
	t.Helper()
	r, err := name.ParseReference(reference)
	if err == nil {
		err = remote.Write(r, image, remote.WithContext(t.Context()))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// busybox is another image than the node's, of the same layer.
func busybox(t *testing.T) v1.Image {
	t.Helper()
	image, err := fixtures.BusyboxImage()
	if err == nil {
		image, err = mutate.Config(image, v1.Config{Cmd: []string{"true"}, Env: []string{"PATH=/bin"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// trusts makes the node use a policy of its own, and returns what writes it: for
// everything in a registry.
func (n *node) trusts(dir string) func(requirement string) {
	n.t.Helper()
	path := filepath.Join(dir, "policy.json")
	f, err := os.OpenFile(n.configPath(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	_, err = fmt.Fprintf(f, "[trust]\npolicy = %q\n", path)
	if cerr := f.Close(); err != nil || cerr != nil {
		n.t.Fatal(err, cerr)
	}
	return func(requirement string) {
		n.t.Helper()
		write(n.t, path, fmt.Sprintf(`{"default":[{"type":"reject"}],"transports":{"oci":{"":[{"type":"insecureAcceptAnything"}]},"docker":{"localhost":[{"type":"reject"}],"":[%s]}}}`, requirement))
	}
}

const (
	acceptAll = `{"type":"insecureAcceptAnything"}`
	rejectAll = `{"type":"reject"}`
)

func requireKey(path, identity string) string {
	return fmt.Sprintf(`{"type":"sigstoreSigned","keyPath":%q,"signedIdentity":%s}`, path, identity)
}

// refuses runs a command that the policy must not allow.
func (n *node) refuses(want string, args ...string) {
	n.t.Helper()
	r := n.berth(args...)
	if r.code != 125 || !strings.Contains(r.stderr, want) || !strings.Contains(r.stderr, "refused by the signature policy") || strings.Count(r.stderr, "\n") != 1 {
		n.t.Errorf("berth %q: exit status %d, %q, want %q", args, r.code, r.stderr, want)
	}
}

// TestSignaturePolicy pulls and runs an image whose signatures and policy change.
func TestSignaturePolicy(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	dir := t.TempDir()
	repository := startRegistry(t, dir) + "/team/app"
	reference := repository + ":1"
	image := busybox(t)
	push(t, reference, image)
	key, other := newSigner(t, dir, "key.pub"), newSigner(t, dir, "other.pub")
	policy := n.trusts(dir)
	signed := requireKey(key.path, `{"type":"matchRepository"}`)

	policy(signed)
	n.refuses("it is not signed (there is no tag", "pull", "-q", reference)
	n.refuses("it is not signed", "run", "--rm", reference, "true")
	other.sign(image, repository, repository)
	n.refuses("not made with the policy's key", "pull", "-q", reference)
	key.sign(image, repository, repository+"-other")
	n.refuses(repository+"-other", "pull", "-q", reference)
	policy(rejectAll)
	n.refuses("everything is rejected", "pull", "-q", reference)
	if images := n.must("images", "-q"); strings.Count(images, "\n") != 0 {
		t.Errorf("images after refused pulls: %q", images)
	}
	n.checkNothingLeft()

	key.sign(image, repository, repository)
	policy(signed)
	n.must("pull", "-q", reference)
	if got := n.must("run", "--rm", reference, "echo", "signed"); got != "signed" {
		t.Errorf("run: %q", got)
	}
	id := n.must("run", "-d", reference, "echo", "started")
	n.must("wait", id)
	policy(rejectAll)
	n.refuses("everything is rejected", "run", "--rm", reference, "true")
	n.refuses("everything is rejected", "run", "--rm", n.must("inspect", "--format", "{{.Id}}", reference), "true")
	n.refuses("everything is rejected", "start", "-a", id)
	policy(requireKey(other.path, `{"type":"matchRepository"}`))
	n.refuses("not made with the policy's key", "run", "--rm", reference, "true")
	n.refuses("must not be asked", "run", "--rm", "--pull", "never", reference, "true")
	if got := n.must("ps", "-aq", "--no-trunc"); got != id {
		t.Errorf("containers after refused runs: %q, want %q", got, id)
	}
	policy(signed) // verified before under the same policy and key
	if got := n.must("start", "-a", id); got != "started" {
		t.Errorf("start: %q", got)
	}
	n.must("rm", id)
	policy(`{"type":"signedBy","keyType":"GPGKeys","keyPath":"/a"}`)
	if r := n.berth("run", "--rm", reference, "true"); r.code != 125 || !strings.Contains(r.stderr, "requirement signedBy (GPG) cannot be checked") {
		t.Errorf("GPG: %+v", r)
	}
	policy(`{"type":"signed"}`)
	if r := n.berth("run", "--rm", reference, "true"); r.code != 125 || !strings.Contains(r.stderr, filepath.Join(dir, "policy.json")) || !strings.Contains(r.stderr, `transports.docker[""][0].type: there is no requirement "signed"`) {
		t.Errorf("unknown type: %+v", r)
	}
	policy(acceptAll)
	n.must("rmi", reference)
}
