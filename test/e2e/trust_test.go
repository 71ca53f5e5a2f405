package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
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

// configure adds lines to the node's configuration.
func (n *node) configure(lines string) {
	n.t.Helper()
	f, err := os.OpenFile(n.configPath(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	_, err = f.WriteString(lines)
	if cerr := f.Close(); err != nil || cerr != nil {
		n.t.Fatal(err, cerr)
	}
	n.restart()
}

// trusts makes the node use a policy of its own, and returns what writes it: for
// everything in a registry.
func (n *node) trusts(dir string) func(requirement string) {
	n.t.Helper()
	path := filepath.Join(dir, "policy.json")
	n.configure(fmt.Sprintf("[trust]\npolicy = %q\n", path))
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

// authority is a Fulcio and a Rekor: it gives certificates for an address, and knows
// when they were used.
type authority struct {
	t               *testing.T
	key, log        *ecdsa.PrivateKey
	certificate     *x509.Certificate
	caPath, logPath string
}

const oidcIssuer = "https://accounts.example.com"

func newAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	ca, log := newSigner(t, dir, "unused.pub"), newSigner(t, dir, "rekor.pub")
	a := &authority{t: t, key: ca.key, log: log.key, caPath: filepath.Join(dir, "ca.pem"), logPath: log.path}
	a.certificate = a.certify(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-1000 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, ca.key)
	write(t, a.caPath, certificatePEM(a.certificate))
	return a
}

func certificatePEM(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func (a *authority) certify(template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	a.t.Helper()
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// keyless are the annotations of a signature that somebody made of a payload a month
// ago, without a key of their own.
func (a *authority) keyless(email string, payload []byte) map[string]string {
	a.t.Helper()
	at := time.Now().Add(-720 * time.Hour)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf := certificatePEM(a.certify(&x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: at, NotAfter: at.Add(10 * time.Minute), EmailAddresses: []string{email},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}, Value: []byte(oidcIssuer)}},
	}, a.certificate, key))
	signature := a.sign(key, payload)
	sum := sha256.Sum256(payload)
	body := fmt.Appendf(nil, `{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{"data":{"hash":{"algorithm":"sha256","value":"%x"}},"signature":{"content":%q,"publicKey":{"content":%q}}}}`,
		sum, signature, base64.StdEncoding.EncodeToString([]byte(leaf)))
	entry := fmt.Sprintf(`{"body":%q,"integratedTime":%d,"logID":"%x","logIndex":7}`, base64.StdEncoding.EncodeToString(body), at.Add(time.Minute).Unix(), sum)
	return map[string]string{
		"dev.cosignproject.cosign/signature": signature, "dev.sigstore.cosign/certificate": leaf,
		"dev.sigstore.cosign/bundle": fmt.Sprintf(`{"SignedEntryTimestamp":%q,"Payload":%s}`, a.sign(a.log, []byte(entry)), entry),
	}
}

func (a *authority) sign(key *ecdsa.PrivateKey, message []byte) string {
	a.t.Helper()
	sum := sha256.Sum256(message)
	s, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		a.t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(s)
}

// requirement of a signature by who has an address.
func (a *authority) requirement(email string) string {
	return fmt.Sprintf(`{"type":"sigstoreSigned","fulcio":{"caPath":%q,"oidcIssuer":%q,"subjectEmail":%q},"rekorPublicKeyPath":%q,"signedIdentity":{"type":"matchRepository"}}`,
		a.caPath, oidcIssuer, email, a.logPath)
}

// attach puts a signature in a manifest that refers to its image. docker-registry
// does not tell of it; the list under a tag does, which the client keeps.
func attach(t *testing.T, image v1.Image, repository string, payload []byte, annotations map[string]string) {
	t.Helper()
	descriptor, err := partial.Descriptor(image)
	if err != nil {
		t.Fatal(err)
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), "application/vnd.dev.cosign.artifact.sig.v1+json")
	signatures, err := mutate.Append(base, mutate.Addendum{Layer: static.NewLayer(payload, "application/vnd.dev.cosign.simplesigning.v1+json"), Annotations: annotations})
	if err != nil {
		t.Fatal(err)
	}
	signatures, ok := mutate.Subject(signatures, *descriptor).(v1.Image)
	if !ok {
		t.Fatal("a manifest with a subject is no image")
	}
	d, err := signatures.Digest()
	if err != nil {
		t.Fatal(err)
	}
	push(t, repository+"@"+d.String(), signatures)
}

// TestKeylessPolicy pulls images whose signatures no key of the policy made.
func TestKeylessPolicy(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	dir := t.TempDir()
	repository := startRegistry(t, dir) + "/team/app"
	reference := repository + ":1"
	image := busybox(t)
	push(t, reference, image)
	a, other := newAuthority(t, dir), newAuthority(t, t.TempDir())
	policy := n.trusts(dir)
	d, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	payload := fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, repository, d)

	policy(a.requirement("builds@example.com"))
	n.refuses("it is not signed", "pull", "-q", reference)
	attach(t, image, repository, payload, other.keyless("builds@example.com", payload))
	n.refuses("its log entry was not signed with the policy's Rekor key", "pull", "-q", reference)
	attach(t, image, repository, payload, a.keyless("evil@example.com", payload))
	n.refuses(`its certificate is for "evil@example.com"`, "pull", "-q", reference)
	unlogged := a.keyless("builds@example.com", payload)
	delete(unlogged, "dev.sigstore.cosign/bundle")
	attach(t, image, repository, payload, unlogged)
	n.refuses("it has no entry of a transparency log", "pull", "-q", reference)
	n.checkNothingLeft()

	attach(t, image, repository, payload, a.keyless("builds@example.com", payload))
	n.must("pull", "-q", reference)
	if got := n.must("run", "--rm", reference, "echo", "signed"); got != "signed" {
		t.Errorf("run: %q", got)
	}
	policy(a.requirement("others@example.com"))
	n.refuses(`the policy wants "others@example.com"`, "run", "--rm", reference, "true")
	policy(acceptAll)
	n.must("rmi", reference)
}
