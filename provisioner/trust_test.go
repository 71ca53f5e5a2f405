package provisioner_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner"
	"github.com/berth-dev/berth/provisioner/trust"
)

// signedFetcher has signatures beside images, and archives.
type signedFetcher struct {
	*fakeFetcher
	key      *ecdsa.PrivateKey
	connects int
	down     bool
}

func newSignedFetcher(t *testing.T) *signedFetcher {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signedFetcher{fakeFetcher: newFakeFetcher(), key: k}
}

func (f *signedFetcher) Connect(ctx context.Context, name string, auth *containerizer.RegistryAuth) (containerizer.ImageOrigin, error) {
	f.connects++
	if f.down {
		return nil, containerizer.ErrUnavailable
	}
	o, err := f.fakeFetcher.Connect(ctx, name, auth)
	return &signedOrigin{o, f}, err
}

func (f *signedFetcher) Contents(_ context.Context, path string) ([]containerizer.ArchivedImage, error) {
	name := "oci-archive:" + path
	f.image(name, []byte{})
	return []containerizer.ArchivedImage{{Reference: name, Names: []string{"r.example/loaded:1"}}}, nil
}

type signedOrigin struct {
	containerizer.ImageOrigin
	f *signedFetcher
}

func (o *signedOrigin) ResolveTag(_ context.Context, tag string) (v1.Descriptor, []byte, error) {
	d, ok := o.f.names["tag "+tag]
	if !ok {
		return d, nil, containerizer.ErrNotFound
	}
	return d, o.f.blobs[d.Digest], nil
}

// sign adds a signature of d for a repository.
func (f *signedFetcher) sign(t *testing.T, d digest.Digest, repository string) {
	t.Helper()
	payload := fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, repository, d)
	sum := sha256.Sum256(payload)
	sig, err := ecdsa.SignASN1(rand.Reader, f.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	l := f.put("application/vnd.dev.cosign.simplesigning.v1+json", payload)
	l.Annotations = map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(sig)}
	f.names["tag sha256-"+d.Encoded()+".sig"] = f.putJSON(v1.MediaTypeImageManifest, v1.Manifest{Layers: []v1.Descriptor{l}})
}

// policy writes policies, which are in force at once.
type policy struct {
	t    *testing.T
	path string
	key  string
}

func (f *signedFetcher) policy(t *testing.T) *policy {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(f.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	p := &policy{t: t, path: filepath.Join(t.TempDir(), "policy.json"), key: filepath.Join(t.TempDir(), "k.pub")}
	if err := os.WriteFile(p.key, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *policy) option(o *provisioner.Options) {
	o.Trust = provisioner.Trust{Defaults: []string{"/nonexistent/policy.json", p.path}, Verifier: trust.Verifier{}}
}

// set puts verdicts ("accept", "reject", "signed") for "TRANSPORT SCOPE" in force,
// "" is the default.
func (p *policy) set(verdicts map[string]string) {
	p.t.Helper()
	requirement := map[string]string{
		"accept": `{"type":"insecureAcceptAnything"}`, "reject": `{"type":"reject"}`,
		"signed": `{"type":"sigstoreSigned","keyPath":"` + p.key + `","signedIdentity":{"type":"matchRepository"}}`,
	}
	transports := map[string][]string{}
	for where, v := range verdicts {
		if transport, scope, ok := strings.Cut(where, " "); ok {
			transports[transport] = append(transports[transport], fmt.Sprintf("%q:[%s]", scope, requirement[v]))
		}
	}
	var all []string
	for name, scopes := range transports {
		all = append(all, fmt.Sprintf("%q:{%s}", name, strings.Join(scopes, ",")))
	}
	slices.Sort(all)
	text := fmt.Sprintf(`{"default":[%s],"transports":{%s}}`, requirement[verdicts[""]], strings.Join(all, ","))
	if err := os.WriteFile(p.path, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// empty says that a store has nothing in it.
func empty(t *testing.T, root string) {
	t.Helper()
	for _, folder := range []string{"images", "refs", "layers", "origins", "oci/blobs/sha256", "stage", "leases", "containers"} {
		entries, err := os.ReadDir(filepath.Join(root, folder))
		if err != nil && !errors.Is(err, os.ErrNotExist) || len(entries) > 0 {
			t.Errorf("%s: %v, %v", folder, entries, err)
		}
	}
}

const signedName = "r.example/app:1"

func TestPolicyAtPull(t *testing.T) {
	for name, c := range map[string]struct {
		verdicts map[string]string
		sign     string
		want     error
		text     string
		connects int
	}{
		"accepted":                {map[string]string{"": "accept"}, "", nil, "", 1},
		"signed":                  {map[string]string{"": "signed"}, "r.example/app", nil, "", 1},
		"not signed":              {map[string]string{"": "signed"}, "", containerizer.ErrUntrusted, "it is not signed", 1},
		"signed for another name": {map[string]string{"": "signed"}, "r.example/other", containerizer.ErrUntrusted, "r.example/other", 1},
		"rejected":                {map[string]string{"": "accept", "docker r.example": "reject"}, "r.example/app", containerizer.ErrUntrusted, `scope docker "r.example": everything is rejected`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := newSignedFetcher(t)
			d := f.image(signedName, layerTar(t, "f a content"))
			if c.sign != "" {
				f.sign(t, d.Digest, c.sign)
			}
			p := f.policy(t)
			p.set(c.verdicts)
			s, root := newStore(t, f, p.option)
			layers := 0
			_, err := s.Pull(t.Context(), source(signedName), containerizer.PullOptions{})
			if !errors.Is(err, c.want) || c.want != nil && !strings.Contains(err.Error(), c.text) || f.connects != c.connects {
				t.Fatalf("%d connections, %v", f.connects, err)
			}
			for d, n := range f.opens {
				if f.names[signedName].Digest != d && strings.HasPrefix(string(f.blobs[d]), "\x1f\x8b") {
					layers += n
				}
			}
			if c.want != nil {
				if layers != 0 {
					t.Error("a layer was fetched")
				}
				empty(t, root)
				return
			}
			f.down = true // it was judged already
			if _, err := s.Provision(t.Context(), id("c"), source(signedName)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPolicyChanges has an image that was pulled under another policy.
func TestPolicyChanges(t *testing.T) {
	f := newSignedFetcher(t)
	d := f.image(signedName, layerTar(t, "f a content"))
	p := f.policy(t)
	s, root := newStore(t, f, p.option) // none yet
	if _, err := s.Pull(t.Context(), source(signedName), containerizer.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	n := 0
	try := func(what string, src containerizer.ImageSource, want error) {
		t.Helper()
		n++
		c := id(fmt.Sprintf("c%d", n))
		_, err := s.Provision(t.Context(), c, src)
		if !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", what, err, want)
		}
		if _, serr := os.Stat(filepath.Join(root, "containers", string(c))); want != nil && serr == nil {
			t.Errorf("%s: something is left", what)
		}
		if err := s.Destroy(t.Context(), c); err != nil {
			t.Error(err)
		}
	}
	asked := func(what string, want int) {
		t.Helper()
		if f.connects != want {
			t.Errorf("%s: connected %d times, want %d", what, f.connects, want)
		}
		f.connects = 0
	}
	f.connects = 0
	never := source(signedName)
	never.Pull = containerizer.PullNever
	byID := source(string(d.Digest))

	try("no policy", source(signedName), nil)
	p.set(map[string]string{"": "accept"})
	try("anything is accepted", source(signedName), nil)
	try("by id", byID, nil)
	asked("nobody is needed", 0)
	p.set(map[string]string{"": "accept", "docker r.example/app": "reject"})
	try("rejected now", source(signedName), containerizer.ErrUntrusted)
	try("rejected by id", byID, containerizer.ErrUntrusted)
	if err := s.Tag(t.Context(), signedName, "good.example/app:1"); err != nil {
		t.Fatal(err)
	}
	try("rejected by another name", source("good.example/app:1"), containerizer.ErrUntrusted)
	asked("a rejection needs nobody", 0)
	p.set(map[string]string{"": "signed"})
	try("not signed", source(signedName), containerizer.ErrUntrusted)
	asked("for signatures", 1)
	try("nobody may be asked", never, containerizer.ErrUntrusted)
	asked("nobody may be asked", 0)
	f.sign(t, d.Digest, "r.example/app")
	f.down = true
	try("the registry is down", source(signedName), containerizer.ErrUnavailable)
	f.down = false
	f.connects = 0
	try("signed", source(signedName), nil)
	asked("for signatures", 1)
	f.down = true
	try("signed and remembered", source(signedName), nil)
	try("and by id", byID, nil)
	try("and by another name", source("good.example/app:1"), nil)
	try("and without asking", never, nil)
	asked("nobody", 0)

	// Another key under the same path is another policy.
	if err := os.WriteFile(p.key, anotherKey(t), 0o600); err != nil {
		t.Fatal(err)
	}
	f.down = false
	try("another key", source(signedName), containerizer.ErrUntrusted)

	// The same bytes, which another place vouches for.
	f.names["good.example/x:1"] = f.names[signedName]
	p.set(map[string]string{"": "reject", "docker good.example": "accept"})
	if _, err := s.Pull(t.Context(), source("good.example/x:1"), containerizer.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	try("by that name", source("good.example/x:1"), nil)
	try("by id", byID, nil)
	try("by the rejected name", source(signedName), containerizer.ErrUntrusted)

	// A container that has its image already is judged, too.
	if _, err := s.Provision(t.Context(), id("again"), source("good.example/x:1")); err != nil {
		t.Fatal(err)
	}
	p.set(map[string]string{"": "reject"})
	if _, err := s.Provision(t.Context(), id("again"), source("good.example/x:1")); !errors.Is(err, containerizer.ErrUntrusted) {
		t.Errorf("again: %v", err)
	}
	if _, err := s.Pull(t.Context(), source("good.example/x:1"), containerizer.PullOptions{}); !errors.Is(err, containerizer.ErrUntrusted) {
		t.Errorf("pull of what is there: %v", err)
	}
	if err := s.Destroy(t.Context(), id("again")); err != nil {
		t.Fatal(err)
	}

	// Records go with their image.
	if _, err := s.Remove(t.Context(), string(d.Digest), true); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(filepath.Join(root, "origins")); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func anotherKey(t *testing.T) []byte {
	t.Helper()
	raw, err := os.ReadFile(newSignedFetcher(t).policy(t).key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestUnknownOrigin has an image whose record of where it came from is lost, or of
// an older berth.
func TestUnknownOrigin(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"lost":   os.Remove,
		"broken": func(path string) error { return os.WriteFile(path, []byte("{"), 0o600) },
		"another": func(path string) error {
			return os.WriteFile(path, []byte(`{"name":"other.example/x:1"}`), 0o600)
		},
	} {
		f := newSignedFetcher(t)
		d := f.image(signedName, layerTar(t, "f a content"))
		p := f.policy(t)
		s, root := newStore(t, f, p.option)
		if _, err := s.Pull(t.Context(), source(signedName), containerizer.PullOptions{}); err != nil {
			t.Fatal(err)
		}
		records, err := filepath.Glob(filepath.Join(root, "origins", "*", "*"))
		if err != nil || len(records) != 1 {
			t.Fatal(records, err)
		}
		if err := spoil(records[0]); err != nil {
			t.Fatal(err)
		}
		p.set(map[string]string{"": "accept", "docker r.example": "reject"})
		if _, err := s.Provision(t.Context(), id("a"), source(string(d.Digest))); err != nil {
			t.Errorf("%s: by id, the default counts: %v", name, err)
		}
		if _, err := s.Provision(t.Context(), id("b"), source(signedName)); !errors.Is(err, containerizer.ErrUntrusted) {
			t.Errorf("%s: by name: %v", name, err)
		}
	}
}

func TestPolicyOfArchives(t *testing.T) {
	f := newSignedFetcher(t)
	p := f.policy(t)
	s, root := newStore(t, f, p.option)
	dir := t.TempDir()
	archive := filepath.Join(dir, "a.tar")
	if err := os.WriteFile(archive, []byte("archive"), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func(want error, verdicts map[string]string) {
		t.Helper()
		p.set(verdicts)
		r, err := os.Open(archive)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }()
		_, err = s.Load(t.Context(), r, containerizer.PullOptions{})
		if !errors.Is(err, want) || err != nil && (!strings.Contains(err.Error(), archive) || strings.Contains(err.Error(), "/stage/")) {
			t.Errorf("%v: %v", verdicts, err)
		}
	}
	load(containerizer.ErrUntrusted, map[string]string{"": "reject", "docker ": "accept"})
	load(containerizer.ErrUntrusted, map[string]string{"": "accept", "oci-archive " + dir: "reject"})
	load(containerizer.ErrUntrusted, map[string]string{"": "signed"})
	empty(t, root)
	load(nil, map[string]string{"": "reject", "oci-archive " + archive: "accept"})
	if _, err := s.Provision(t.Context(), id("c"), source("r.example/loaded:1")); err != nil {
		t.Error(err)
	}
	if _, err := s.Load(t.Context(), strings.NewReader("archive"), containerizer.PullOptions{}); !errors.Is(err, containerizer.ErrUntrusted) {
		t.Errorf("from nowhere: %v", err)
	}
	p.set(map[string]string{"": "accept", "oci-archive " + dir: "reject"})
	if _, err := s.Provision(t.Context(), id("d"), source("r.example/loaded:1")); !errors.Is(err, containerizer.ErrUntrusted) {
		t.Errorf("rejected later: %v", err)
	}
}

func TestPolicyFiles(t *testing.T) {
	f := newSignedFetcher(t)
	f.image(signedName, layerTar(t, "f a content"))
	p := f.policy(t)
	for name, c := range map[string]struct {
		trust provisioner.Trust
		text  string
		want  error
	}{
		"named and missing": {provisioner.Trust{Policy: p.path, Verifier: trust.Verifier{}}, "", containerizer.ErrFailedPrecondition},
		"default missing":   {provisioner.Trust{Defaults: []string{p.path}, Verifier: trust.Verifier{}}, "", nil},
		"no directory":      {provisioner.Trust{Defaults: []string{p.key + "/policy.json"}, Verifier: trust.Verifier{}}, "", containerizer.ErrFailedPrecondition},
		"broken":            {provisioner.Trust{Defaults: []string{p.path}, Verifier: trust.Verifier{}}, "{", containerizer.ErrInvalid},
		"nobody to judge":   {provisioner.Trust{Defaults: []string{p.path}}, "{}", containerizer.ErrUntrusted},
	} {
		_ = os.Remove(p.path)
		if c.text != "" {
			if err := os.WriteFile(p.path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s, _ := newStore(t, f, func(o *provisioner.Options) { o.Trust = c.trust })
		_, err := s.Pull(t.Context(), source(signedName), containerizer.PullOptions{})
		if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), "policy") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
