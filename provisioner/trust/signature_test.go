package trust_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/trust"
)

func TestKeys(t *testing.T) {
	for name, k := range keys(t) {
		t.Run(name, func(t *testing.T) {
			r := newRegistry()
			r.sign(t, k, imaged, repo)
			if err := r.verify(t, requires(t, k, anyTag), image, imaged); err != nil {
				t.Error(err)
			}
			for other, o := range keys(t) { // new ones
				if err := r.verify(t, requires(t, o, anyTag), image, imaged); !errors.Is(err, containerizer.ErrUntrusted) {
					t.Errorf("with another key (%s): %v", other, err)
				}
			}
		})
	}
	t.Run("RSA PSS", func(t *testing.T) {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		r, s, p := newRegistry(), &sigs{}, payload(imaged, repo)
		raw := rawSignature(t, k, p, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
		r.add(s, p, map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(raw)})
		r.put(t, imaged, s)
		if err := r.verify(t, requires(t, k, anyTag), image, imaged); err != nil {
			t.Error(err)
		}
	})
}

func TestUnusableKeys(t *testing.T) {
	p521, err1 := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	t.Setenv("GODEBUG", "rsa1024min=0")
	small, err2 := rsa.GenerateKey(rand.Reader, 1024)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	good := pemOf(t, newKey(t).Public())
	for name, c := range map[string]struct {
		pem  []byte
		want string
	}{
		"P-521":       {pemOf(t, p521.Public()), "P-521"},
		"small RSA":   {pemOf(t, small.Public()), "1024 bits"},
		"no PEM":      {[]byte("key"), "no PEM block"},
		"two":         {append(good, good...), "more in it than one"},
		"certificate": {[]byte(strings.ReplaceAll(string(good), "PUBLIC KEY", "CERTIFICATE")), `type "CERTIFICATE"`},
		"broken":      {[]byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), "asn1"},
		"large":       {make([]byte, 65<<10), "more than 65536 bytes"},
	} {
		path := file(t, "k.pub", c.pem)
		policy := file(t, "policy.json", []byte(`{"default":[{"type":"sigstoreSigned","keyPath":"`+path+`"}]}`))
		// It is found out before anybody is asked.
		r := newRegistry()
		err := r.verify(t, policy, image)
		if !errors.Is(err, containerizer.ErrInvalid) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) || r.asked > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIdentities(t *testing.T) {
	tagged, other := image, "registry.example/team/app:2.0"
	hex := strings.Repeat("a", 64)
	byDigest := repo + "@sha256:" + hex
	for _, c := range []struct {
		identity, image, signed string
		want                    bool
	}{
		{``, tagged, tagged, true}, // matchRepoDigestOrExact
		{``, tagged, other, false},
		{``, tagged, repo, false},
		{``, byDigest, tagged, true},
		{``, byDigest, other, true},
		{``, byDigest, repo, false}, // as containers/image has it
		{``, byDigest, "registry.example/team/evil:1", false},
		{`{"type":"matchRepoDigestOrExact"}`, tagged, tagged, true},
		{`{"type":"matchRepoDigestOrExact"}`, tagged, byDigest, false},
		{`{"type":"matchExact"}`, tagged, tagged, true},
		{`{"type":"matchExact"}`, tagged, repo, false},
		{`{"type":"matchExact"}`, byDigest, tagged, false},
		{`{"type":"matchExact"}`, byDigest, byDigest, true},
		{`{"type":"matchRepository"}`, tagged, repo, true},
		{`{"type":"matchRepository"}`, tagged, other, true},
		{`{"type":"matchRepository"}`, byDigest, repo, true},
		{`{"type":"matchRepository"}`, tagged, "registry.example/team/app2", false},
		{`{"type":"matchRepository"}`, tagged, "registry.example/team", false},
		{`{"type":"matchRepository"}`, tagged, "app", false},
		{`{"type":"matchRepository"}`, "docker.io/library/busybox:1", "busybox", true},
		{`{"type":"exactReference","dockerReference":"v.example/a:1"}`, tagged, "v.example/a:1", true},
		{`{"type":"exactReference","dockerReference":"v.example/a:1"}`, tagged, "v.example/a:2", false},
		{`{"type":"exactReference","dockerReference":"v.example/a:1"}`, tagged, "v.example/a", false},
		{`{"type":"exactReference","dockerReference":"v.example/a:1"}`, tagged, tagged, false},
		{`{"type":"exactRepository","dockerRepository":"v.example/a"}`, tagged, "v.example/a", true},
		{`{"type":"exactRepository","dockerRepository":"v.example/a"}`, tagged, "v.example/a:7", true},
		{`{"type":"exactRepository","dockerRepository":"v.example/a"}`, tagged, "v.example/b", false},
		{`{"type":"remapIdentity","prefix":"registry.example/team","signedPrefix":"v.example/x"}`, tagged, "v.example/x/app:1.0", true},
		{`{"type":"remapIdentity","prefix":"registry.example/team","signedPrefix":"v.example/x"}`, tagged, "v.example/x/app:1.1", false},
		{`{"type":"remapIdentity","prefix":"registry.example/team","signedPrefix":"v.example/x"}`, tagged, tagged, false},
		{`{"type":"remapIdentity","prefix":"registry.example/te","signedPrefix":"v.example/x"}`, tagged, tagged, true}, // no prefix of whole elements
		{`{"type":"remapIdentity","prefix":"registry.example","signedPrefix":"v.example"}`, byDigest, "v.example/team/app:5", true},
		{`{"type":"remapIdentity","prefix":"registry.example","signedPrefix":"v.example"}`, byDigest, "v.example/team/app", false},
	} {
		k, r, more := newKey(t), newRegistry(), ""
		r.sign(t, k, imaged, c.signed)
		if c.identity != "" {
			more = `,"signedIdentity":` + c.identity
		}
		err := r.verify(t, requires(t, k, more), c.image, imaged)
		if (err == nil) != c.want || err != nil && !errors.Is(err, containerizer.ErrUntrusted) {
			t.Errorf("%s for %s, signed %s: %v", c.identity, c.image, c.signed, err)
		}
	}
}

// TestRefused changes one thing of a good signature at a time.
func TestRefused(t *testing.T) {
	k := newKey(t)
	good := payload(imaged, repo)
	replace := func(old, text string) []byte {
		s := strings.Replace(string(good), old, text, 1)
		if s == string(good) {
			t.Fatalf("%q is not there", old)
		}
		return []byte(s)
	}
	const annotation = "dev.cosignproject.cosign/signature"
	for name, c := range map[string]struct {
		payload []byte // signed with the right key
		spoil   func(r *registry, s *sigs)
		want    string
	}{
		"good":                     {good, nil, ""},
		"creator and time":         {replace(`null}`, `{"creator":"x","timestamp":1,"a":[1]}}`), nil, ""},
		"of another image":         {payload(other, repo), nil, "it is for another image, sha256:0000"},
		"of another repository":    {payload(imaged, "registry.example/team/other"), nil, `it is for the name "registry.example/team/other"`},
		"another type":             {replace("cosign container", "atomic container"), nil, "critical.type"},
		"unknown key":              {replace(`"optional"`, `"more":1,"optional"`), nil, "more: there is no such key"},
		"unknown critical key":     {replace(`"type"`, `"more":1,"type"`), nil, "critical.more"},
		"unknown key of image":     {replace(`"docker-manifest-digest"`, `"x":1,"docker-manifest-digest"`), nil, "critical.image.x"},
		"no optional":              {replace(`,"optional":null`, ``), nil, "optional: the key is missing"},
		"two digests":              {replace(`"docker-manifest-digest"`, `"docker-manifest-digest":"`+string(other)+`","docker-manifest-digest"`), nil, "there twice"},
		"two identities":           {replace(`"identity"`, `"identity":{"docker-reference":"x"},"identity"`), nil, "critical.identity: the key is there twice"},
		"another case":             {replace(`"critical"`, `"Critical"`), nil, "Critical: there is no such key"},
		"bad digest":               {replace(string(imaged), "sha256:zz"), nil, "critical.image.docker-manifest-digest"},
		"bad creator":              {replace(`null}`, `{"creator":1}}`), nil, "optional.creator"},
		"bad time":                 {replace(`null}`, `{"timestamp":1.5}}`), nil, "optional.timestamp"},
		"not JSON":                 {[]byte("x"), nil, "it is not JSON"},
		"more after it":            {append([]byte(string(good)), "{}"...), nil, "it is not JSON"},
		"payload changed later":    {good, func(r *registry, s *sigs) { r.blobs[s.layers[0].Digest] = payload(other, repo) }, "does not have the digest"},
		"payload exchanged":        {good, func(r *registry, s *sigs) { exchange(r, s, payload(imaged, "evil")) }, "not made with the policy's key"},
		"payload gone":             {good, func(r *registry, _ *sigs) { clear(r.blobs) }, "not found"},
		"longer than said":         {good, func(r *registry, s *sigs) { r.blobs[s.layers[0].Digest] = append(good, ' ') }, "has not the"},
		"too large":                {good, func(_ *registry, s *sigs) { s.layers[0].Size = 1 << 30 }, "1073741824 bytes"},
		"no annotation":            {good, func(_ *registry, s *sigs) { s.layers[0].Annotations = nil }, "no annotation"},
		"annotation not base64":    {good, func(_ *registry, s *sigs) { s.layers[0].Annotations[annotation] = "?" }, "illegal base64"},
		"signature of other bytes": {good, func(_ *registry, s *sigs) { maps.Copy(s.layers[0].Annotations, signatureBy(t, k, []byte("x"))) }, "not made with"},
		"annotation too large": {
			good, func(_ *registry, s *sigs) { s.layers[0].Annotations["x"] = strings.Repeat("x", 65<<10) }, "has more than 65536 bytes",
		},
		"digest of another form": {good, func(_ *registry, s *sigs) { s.layers[0].Digest = "x:y" }, "digest"},
		"another media type":     {good, func(_ *registry, s *sigs) { s.layers[0].MediaType = "text/plain" }, "it is not signed"},
		"no layers":              {good, func(_ *registry, s *sigs) { s.layers = nil }, "it is not signed"},
	} {
		t.Run(name, func(t *testing.T) {
			r, s := newRegistry(), &sigs{}
			r.add(s, c.payload, signatureBy(t, k, c.payload))
			if c.spoil != nil {
				c.spoil(r, s)
			}
			r.put(t, imaged, s)
			err := r.verify(t, requires(t, k, anyTag), image, imaged)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("got %v", err)
			case c.want != "" && (!errors.Is(err, containerizer.ErrUntrusted) || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %q", err, c.want)
			}
			if c.want == "" {
				return
			}
			// A good one beside it counts.
			r.add(s, good, signatureBy(t, k, good))
			r.blobs[digest.FromBytes(good)] = good
			s.layers[0], s.layers[len(s.layers)-1] = s.layers[len(s.layers)-1], s.layers[0]
			r.put(t, imaged, s)
			if err := r.verify(t, requires(t, k, anyTag), image, imaged); err != nil {
				t.Errorf("beside a good one: %v", err)
			}
		})
	}
}

// exchange leaves the annotations with another payload.
func exchange(r *registry, s *sigs, p []byte) {
	d := digest.FromBytes(p)
	r.blobs[d] = p
	s.layers[0].Digest, s.layers[0].Size = d, int64(len(p))
}

// TestReplay offers good signatures where they do not belong.
func TestReplay(t *testing.T) {
	k, r := newKey(t), newRegistry()
	r.sign(t, k, other, repo)
	r.tags["sha256-"+imaged.Encoded()+".sig"] = r.tags["sha256-"+other.Encoded()+".sig"]
	if err := r.verify(t, requires(t, k, anyTag), image, imaged); !errors.Is(err, containerizer.ErrUntrusted) {
		t.Errorf("of another digest: %v", err)
	}
	r.sign(t, k, imaged, repo)
	if err := r.verify(t, requires(t, k, anyTag), "registry.example/team/evil:1", imaged); !errors.Is(err, containerizer.ErrUntrusted) {
		t.Errorf("in another repository: %v", err)
	}
	// An index may be signed, or the manifest that it names.
	for _, signed := range []digest.Digest{imaged, other} {
		r := newRegistry()
		r.sign(t, k, signed, repo)
		if err := r.verify(t, requires(t, k, anyTag), image, imaged, other); err != nil {
			t.Errorf("signed %s of two: %v", signed, err)
		}
	}
}

func TestManifests(t *testing.T) {
	k := newKey(t)
	policy := requires(t, k, anyTag)
	good := payload(imaged, repo)
	tag := "sha256-" + imaged.Encoded() + ".sig"
	for name, c := range map[string]struct {
		spoil func(r *registry)
		want  error
		text  string
	}{
		"none":        {func(r *registry) { clear(r.tags) }, containerizer.ErrUntrusted, "it is not signed (there is no tag"},
		"not JSON":    {func(r *registry) { r.tags[tag] = []byte("{") }, containerizer.ErrInvalid, tag},
		"too large":   {func(r *registry) { r.tags[tag] = make([]byte, 5<<20) }, containerizer.ErrInvalid, "more than"},
		"unreachable": {func(r *registry) { r.down = containerizer.ErrUnavailable }, containerizer.ErrUnavailable, "look for signatures"},
		"too many": {func(r *registry) {
			s := &sigs{}
			for range 200 {
				r.add(s, good, signatureBy(t, k, good))
			}
			r.put(t, imaged, s)
		}, containerizer.ErrInvalid, "200 signatures"},
	} {
		r := newRegistry()
		r.sign(t, k, imaged, repo)
		c.spoil(r)
		if err := r.verify(t, policy, image, imaged); !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWithoutOrigin(t *testing.T) {
	k := newKey(t)
	policy := requires(t, k, anyTag)
	if _, err := (trust.Verifier{}).Verify(t.Context(), policy, image, []digest.Digest{imaged}, nil); !errors.Is(err, containerizer.ErrUntrusted) || !strings.Contains(err.Error(), "must not be asked") {
		t.Errorf("nobody may be asked: %v", err)
	}
	for _, name := range []string{"oci:/srv/x:1", "oci-archive:/x.tar", "docker-archive:/x.tar", ""} {
		r := newRegistry()
		if err := r.verify(t, policy, name, imaged); !errors.Is(err, containerizer.ErrUntrusted) || r.asked > 0 {
			t.Errorf("%q: %v", name, err)
		}
	}
	r := newRegistry()
	if err := r.verify(t, policy, image); err != nil || r.asked > 0 {
		t.Errorf("before the digest is known: %v, asked %d times", err, r.asked)
	}
}

func FuzzPayload(f *testing.F) {
	f.Add(payload(imaged, repo))
	f.Add([]byte(`{"critical":{"identity":{"docker-reference":"x:1@sha256:a"},"image":{},"type":""},"optional":{"creator":"x","timestamp":1e9}}`))
	k := newKey(f)
	policy := requires(f, k, anyTag)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) == 0 {
			return
		}
		r, s := newRegistry(), &sigs{}
		r.add(s, raw, signatureBy(t, k, raw))
		r.put(t, imaged, s)
		err := r.verify(t, policy, image, imaged)
		if err == nil && (!strings.Contains(string(raw), imaged.Encoded()) && !strings.Contains(string(raw), `\u`)) {
			t.Errorf("%q is accepted for %s", raw, imaged)
		}
		if err != nil && !errors.Is(err, containerizer.ErrUntrusted) {
			t.Error(err)
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"layers":[{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","digest":"` + string(imaged) + `","size":3,"annotations":{"dev.cosignproject.cosign/signature":"AAAA"}}]}`))
	policy := requires(f, newKey(f), anyTag)
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := newRegistry()
		r.tags["sha256-"+imaged.Encoded()+".sig"] = raw
		if err := r.verify(t, policy, image, imaged); err == nil {
			t.Errorf("%q is accepted", raw)
		}
	})
}
