package trust_test

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
)

const (
	artifactSignatures = "application/vnd.dev.cosign.artifact.sig.v1+json"
	simpleMedia        = "application/vnd.dev.cosign.simplesigning.v1+json"
	bundleMedia        = "application/vnd.dev.sigstore.bundle.v0.3+json"
	inToto             = "application/vnd.in-toto+json"
)

// TestReferrers has cosign's signatures in manifests that refer to the image.
func TestReferrers(t *testing.T) {
	k := newKey(t)
	policy := requires(t, k, anyTag)
	good := payload(imaged, repo)
	// referred are n good signatures in one manifest.
	referred := func(n int) (*registry, *sigs) {
		r, s := newRegistry(), &sigs{}
		for range n {
			r.add(s, good, signatureBy(t, k, good))
		}
		return r, s
	}
	for name, c := range map[string]struct {
		make func() *registry
		want error
		text string
	}{
		"good": {make: func() *registry {
			r, s := referred(1)
			r.refer(t, imaged, artifactSignatures, &v1.Manifest{Layers: s.layers})
			return r
		}},
		"beside a bad tag": {make: func() *registry {
			r, s := referred(1)
			r.sign(t, newKey(t), imaged, repo)
			r.refer(t, imaged, artifactSignatures, &v1.Manifest{Layers: s.layers})
			return r
		}},
		"beside a bad one": {make: func() *registry {
			r, s := referred(1)
			r.refer(t, imaged, artifactSignatures, &v1.Manifest{Layers: []v1.Descriptor{{MediaType: simpleMedia}}})
			r.referred[imaged] = append(r.referred[imaged], v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: other, Size: 7})
			r.refer(t, imaged, artifactSignatures, &v1.Manifest{Layers: s.layers})
			return r
		}},
		"of the index": {make: func() *registry {
			r, s := referred(1)
			r.refer(t, imaged, artifactSignatures, &v1.Manifest{Layers: s.layers})
			return r
		}},
		"not asked when the tag is good": {make: func() *registry {
			r := newRegistry()
			r.sign(t, k, imaged, repo)
			r.lost = containerizer.ErrUnavailable
			return r
		}},
		"unreachable": {func() *registry {
			r := newRegistry()
			r.lost = containerizer.ErrUnavailable
			return r
		}, containerizer.ErrUnavailable, "look for signatures"},
		"about another image": {func() *registry {
			r, s := referred(1)
			const third = digest.Digest("sha256:3333333333333333333333333333333333333333333333333333333333333333")
			r.refer(t, third, artifactSignatures, &v1.Manifest{Layers: s.layers})
			r.referred[imaged] = r.referred[third]
			return r
		}, containerizer.ErrUntrusted, "it does not refer to " + string(imaged)},
		"another manifest than named": {func() *registry {
			r, s := referred(1)
			r.refer(t, imaged, artifactSignatures, &v1.Manifest{Layers: s.layers})
			d := r.referred[imaged][0].Digest
			r.blobs[d] = []byte(strings.Replace(string(r.blobs[d]), "mediaType", "MediaType", 1))
			return r
		}, containerizer.ErrUntrusted, "does not have the digest"},
		"manifest gone": {func() *registry {
			r, s := referred(1)
			r.refer(t, imaged, artifactSignatures, &v1.Manifest{Layers: s.layers})
			delete(r.blobs, r.referred[imaged][0].Digest)
			return r
		}, containerizer.ErrUntrusted, "not found"},
		"large manifest": {func() *registry {
			r, s := referred(1)
			r.refer(t, imaged, artifactSignatures, &v1.Manifest{Layers: s.layers})
			r.referred[imaged][0].Size = 5 << 20
			return r
		}, containerizer.ErrUntrusted, "5242880 bytes"},
		"index": {func() *registry {
			r, s := referred(1)
			r.refer(t, imaged, artifactSignatures, &v1.Manifest{Layers: s.layers})
			r.referred[imaged][0].MediaType = v1.MediaTypeImageIndex
			return r
		}, containerizer.ErrUntrusted, "it is an index"},
		"many manifests": {func() *registry {
			r, s := referred(1)
			for i := range 65 {
				r.refer(t, imaged, artifactSignatures, &v1.Manifest{Layers: s.layers, Annotations: map[string]string{"n": strconv.Itoa(i)}})
			}
			return r
		}, containerizer.ErrInvalid, "65 manifests with signatures"},
		"many signatures": {func() *registry {
			r, s := referred(70)
			for i := range 2 {
				r.refer(t, imaged, artifactSignatures, &v1.Manifest{Layers: s.layers, Annotations: map[string]string{"n": strconv.Itoa(i)}})
			}
			return r
		}, containerizer.ErrInvalid, "more than 128 signatures"},
		"nothing that is a signature": {func() *registry {
			r := newRegistry()
			r.refer(t, imaged, artifactSignatures, &v1.Manifest{Layers: []v1.Descriptor{{MediaType: "text/plain"}}})
			return r
		}, containerizer.ErrUntrusted, "it is not signed"},
		"bundle about something else": {func() *registry {
			r := newRegistry()
			r.refer(t, imaged, bundleMedia, &v1.Manifest{Annotations: map[string]string{"dev.sigstore.bundle.predicateType": "https://slsa.dev/provenance/v1"}})
			r.blobs = nil // is not fetched
			return r
		}, containerizer.ErrUntrusted, "it is not signed"},
	} {
		if err := c.make().verify(t, policy, image, other, imaged); !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %v %q", name, err, c.want, c.text)
		}
	}
}

// statement is what cosign signs since version 3, with a name of the subject.
func statement(d digest.Digest, name string) string {
	return fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":%q,"digest":{"sha256":%q},"annotations":{}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`, name, d.Encoded())
}

// envelope is a bundle under way.
type envelope struct {
	key                crypto.Signer
	kind               string
	payload, signature []byte
	leaf               *x509.Certificate
	bundle, entry      map[string]any
}

// envelope makes a keyless bundle as cosign does.
func (s *sigstore) envelope(kind, payload string) *envelope {
	s.tb.Helper()
	e := &envelope{key: newKey(s.tb), kind: kind, payload: []byte(payload)}
	e.leaf = s.leaf(e.key, nil)
	e.signature = rawSignature(s.tb, e.key, fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(kind), kind, len(payload), payload), crypto.SHA256)
	e.bundle = map[string]any{
		"mediaType":            bundleMedia,
		"verificationMaterial": map[string]any{"certificate": map[string]any{"rawBytes": e.leaf.Raw}},
		"dsseEnvelope": map[string]any{
			"payload": e.payload, "payloadType": kind, "signatures": []any{map[string]any{"sig": e.signature}},
		},
	}
	s.enter(e, certPEM(e.leaf), s.rekor)
	return e
}

// enter logs it.
func (s *sigstore) enter(e *envelope, verifier string, by crypto.Signer) {
	s.tb.Helper()
	sum, whole := sha256.Sum256(e.payload), sha256.Sum256(s.json(e.bundle["dsseEnvelope"]))
	s.enterBody(e, map[string]any{
		"apiVersion": "0.0.1", "kind": "dsse",
		"spec": map[string]any{
			"envelopeHash": map[string]any{"algorithm": "sha256", "value": hex.EncodeToString(whole[:])},
			"payloadHash":  map[string]any{"algorithm": "sha256", "value": hex.EncodeToString(sum[:])},
			"signatures":   []any{map[string]any{"signature": e.signature, "verifier": []byte(verifier)}},
		},
	}, by)
}

func (s *sigstore) enterBody(e *envelope, body any, by crypto.Signer) {
	s.tb.Helper()
	p, set := s.entry(body, s.now.Add(time.Minute), by)
	id, err := hex.DecodeString(p["logID"].(string))
	if err != nil {
		s.tb.Fatal(err)
	}
	e.entry = map[string]any{
		"logIndex": fmt.Sprint(p["logIndex"]), "logId": map[string]any{"keyId": id}, "kindVersion": map[string]any{"kind": "dsse", "version": "0.0.1"},
		"integratedTime": fmt.Sprint(p["integratedTime"]), "inclusionPromise": map[string]any{"signedEntryTimestamp": set},
		"canonicalizedBody": p["body"],
	}
	e.bundle["verificationMaterial"].(map[string]any)["tlogEntries"] = []any{e.entry}
}

// put attaches it to the image.
func (e *envelope) put(s *sigstore, r *registry) {
	s.tb.Helper()
	raw := s.json(e.bundle)
	d := digest.FromBytes(raw)
	r.blobs[d] = raw
	r.refer(s.tb, imaged, bundleMedia, &v1.Manifest{Layers: []v1.Descriptor{{MediaType: bundleMedia, Digest: d, Size: int64(len(raw))}}})
}

// TestBundles changes one thing of a good bundle at a time.
func TestBundles(t *testing.T) {
	s := newSigstore(t)
	simple, named := string(payload(imaged, repo)), statement(imaged, repo)
	replace := func(old, text string) string { return strings.Replace(named, old, text, 1) }
	material := func(key string, value any) func(*envelope) {
		return func(e *envelope) { e.bundle["verificationMaterial"].(map[string]any)[key] = value }
	}
	inner := func(key string, value any) func(*envelope) {
		return func(e *envelope) { e.bundle["dsseEnvelope"].(map[string]any)[key] = value }
	}
	for name, c := range map[string]struct {
		kind, payload string
		change        func(*envelope)
		want          string
	}{
		"simple":             {kind: simpleMedia, payload: simple},
		"statement":          {kind: inToto, payload: named},
		"one of two images":  {kind: inToto, payload: replace(`"subject":[`, `"subject":[{"digest":{"sha256":"`+other.Encoded()+`"}},`)},
		"more digests":       {kind: inToto, payload: replace(`"digest":{`, `"digest":{"gitCommit":"abc","sha512":"`+strings.Repeat("0", 128)+`",`)},
		"older media type":   {kind: inToto, payload: named, change: func(e *envelope) { e.bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.3" }},
		"numbers as numbers": {kind: inToto, payload: named, change: func(e *envelope) { e.entry["logIndex"] = 1234567 }},
		"proof beside it":    {kind: inToto, payload: named, change: func(e *envelope) { e.entry["inclusionProof"] = map[string]any{"x": 1} }},
		"key ID":             {kind: inToto, payload: named, change: func(e *envelope) { inner("signatures", []any{map[string]any{"sig": e.signature, "keyid": ""}})(e) }},
		"no signatures":      {kind: inToto, payload: named, change: inner("signatures", nil), want: "dsseEnvelope.signatures: it is not an array"},

		"as cosign 3 signs":      {kind: inToto, payload: replace(`"name":"`+repo+`",`, ""), want: "it is for this image but names none, and signedIdentity (matchRepository) wants"},
		"empty name":             {kind: inToto, payload: statement(imaged, ""), want: "names none"},
		"under another name":     {kind: inToto, payload: statement(imaged, "registry.example/team/evil"), want: `it is for the name "registry.example/team/evil"`},
		"nonsense for a name":    {kind: inToto, payload: statement(imaged, "a b"), want: "subject[0].name"},
		"of another image":       {kind: inToto, payload: statement(other, repo), want: "it is for another image"},
		"two names apart":        {kind: inToto, payload: strings.Replace(statement(imaged, "registry.example/x/y"), `"subject":[{`, `"subject":[{"name":"`+repo+`","digest":{"sha256":"`+other.Encoded()+`"}},{`, 1), want: `it is for the name "registry.example/x/y"`},
		"about how it was built": {kind: inToto, payload: replace("https://sigstore.dev/cosign/sign/v1", "https://slsa.dev/provenance/v1"), want: "predicateType: it is"},
		"older statement":        {kind: inToto, payload: replace("Statement/v1", "Statement/v0.1"), want: "_type: it is"},
		"no subject":             {kind: inToto, payload: replace(`"subject"`, `"subjects"`), want: "subjects: there is no such key"},
		"empty subject":          {kind: inToto, payload: `{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`, want: "subject: it is empty"},
		"two subjects":           {kind: inToto, payload: replace(`"subject"`, `"subject":[],"subject"`), want: "the key is there twice"},
		"no digest of an image":  {kind: inToto, payload: replace("sha256", "gitCommit"), want: "it is for no image"},
		"malformed digest":       {kind: inToto, payload: replace(imaged.Encoded(), imaged.Encoded()[1:]+" "), want: "it is for no image"},
		"empty digest":           {kind: inToto, payload: replace(`"digest":{"sha256":"`+imaged.Encoded()+`"}`, `"digest":{}`), want: "it is for no image"},
		"no digest":              {kind: inToto, payload: replace(`"digest"`, `"mediaType"`), want: "subject[0].digest: the key is missing"},
		"many subjects":          {kind: inToto, payload: replace(`"subject":[`, `"subject":[`+strings.Repeat(`{},`, 64)), want: "there are 65 of them"},
		"another type":           {kind: "text/plain", payload: named, want: `it is of the type "text/plain"`},
		"statement as simple":    {kind: simpleMedia, payload: named, want: "its payload"},

		"changed payload":   {kind: inToto, payload: named, change: inner("payload", []byte(statement(imaged, "x/y"))), want: "another payload"},
		"changed type":      {kind: inToto, payload: simple, change: inner("payloadType", simpleMedia), want: "not made with the key of its certificate"},
		"two signatures":    {kind: inToto, payload: named, change: inner("signatures", []any{map[string]any{"sig": "AA=="}, map[string]any{"sig": "AA=="}}), want: "there are 2 of them"},
		"another signature": {kind: inToto, payload: named, change: inner("signatures", []any{map[string]any{"sig": "AA=="}}), want: "its log entry is for another signature"},
		"signature of bytes": {kind: inToto, payload: named, change: func(e *envelope) {
			e.signature = rawSignature(t, e.key, e.payload, crypto.SHA256)
			inner("signatures", []any{map[string]any{"sig": e.signature}})(e)
			s.enter(e, certPEM(e.leaf), s.rekor)
		}, want: "not made with the key of its certificate"},
		"message signature": {kind: inToto, payload: named, change: func(e *envelope) {
			delete(e.bundle, "dsseEnvelope")
			e.bundle["messageSignature"] = map[string]any{}
		}, want: "messageSignature: such a signature names no image"},
		"both":         {kind: inToto, payload: named, change: func(e *envelope) { e.bundle["messageSignature"] = map[string]any{} }, want: "one of them is possible"},
		"older bundle": {kind: inToto, payload: named, change: func(e *envelope) { e.bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.1" }, want: "bundles of version 0.3 can be read"},
		"no material":  {kind: inToto, payload: named, change: func(e *envelope) { delete(e.bundle, "verificationMaterial") }, want: "verificationMaterial: the key is missing"},
		"chain": {kind: inToto, payload: named, change: func(e *envelope) {
			m := e.bundle["verificationMaterial"].(map[string]any)
			delete(m, "certificate")
			m["x509CertificateChain"] = map[string]any{}
		}, want: "version 0.3 has none"},
		"key only": {kind: inToto, payload: named, change: func(e *envelope) {
			m := e.bundle["verificationMaterial"].(map[string]any)
			delete(m, "certificate")
			m["publicKey"] = map[string]any{"hint": "x"}
		}, want: "it has no certificate"},
		"not logged":                   {kind: inToto, payload: named, change: material("tlogEntries", []any{}), want: "no entry of a transparency log"},
		"entries apart":                {kind: inToto, payload: named, change: material("tlogEntries", []any{map[string]any{}, map[string]any{}}), want: "there are 2 of them"},
		"no promise":                   {kind: inToto, payload: named, change: func(e *envelope) { delete(e.entry, "inclusionPromise") }, want: "the log's signed timestamp is what can be verified"},
		"another time":                 {kind: inToto, payload: named, change: func(e *envelope) { e.entry["integratedTime"] = "1700000000" }, want: "the policy's Rekor key"},
		"nonsense time":                {kind: inToto, payload: named, change: func(e *envelope) { e.entry["integratedTime"] = "x" }, want: "integratedTime: it is not an integer"},
		"another log":                  {kind: inToto, payload: named, change: func(e *envelope) { s.enter(e, certPEM(e.leaf), newKey(t)) }, want: "the policy's Rekor key"},
		"entry of bytes":               {kind: inToto, payload: named, change: func(e *envelope) { s.enterBody(e, record(e.payload, e.signature, certPEM(e.leaf)), s.rekor) }, want: "for a signature of another kind"},
		"entry of another certificate": {kind: inToto, payload: named, change: func(e *envelope) { s.enter(e, certPEM(s.leaf(e.key, nil)), s.rekor) }, want: "another key or certificate"},
		"more":                         {kind: inToto, payload: named, change: func(e *envelope) { e.bundle["x"] = 1 }, want: "x: there is no such key"},
	} {
		t.Run(name, func(t *testing.T) {
			e := s.envelope(c.kind, c.payload)
			if c.change != nil {
				c.change(e)
			}
			r := newRegistry()
			e.put(s, r)
			// The certificate between must come from the policy: bundles have none.
			err := r.verify(t, s.policyOf(certPEM(s.root, s.middle)), image, imaged)
			if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, containerizer.ErrUntrusted) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestBundlesByKey has bundles that a key of the policy's made.
func TestBundlesByKey(t *testing.T) {
	s := newSigstore(t)
	e := s.envelope(inToto, statement(imaged, repo))
	keyPEM := string(pemOf(t, e.key.Public()))
	e.bundle["verificationMaterial"] = map[string]any{"publicKey": map[string]any{"hint": "x"}}
	plain := newRegistry()
	e.put(s, plain)
	s.enter(e, keyPEM, s.rekor)
	logged := newRegistry()
	e.put(s, logged)
	rekor := `,"rekorPublicKeyData":"` + base64.StdEncoding.EncodeToString(pemOf(t, s.rekor.Public())) + `"`
	for name, c := range map[string]struct {
		r    *registry
		key  crypto.Signer
		more string
		want string
	}{
		"key":             {plain, e.key, "", ""},
		"another key":     {plain, newKey(t), "", "not made with the policy's key"},
		"not logged":      {plain, e.key, rekor, "no entry of a transparency log"},
		"logged":          {logged, e.key, rekor, ""},
		"logged, another": {logged, newKey(t), rekor, "another key or certificate"},
	} {
		err := c.r.verify(t, requires(t, c.key, c.more+anyTag), image, imaged)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, containerizer.ErrUntrusted) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// FuzzBundle has bundles of which nobody signed any.
func FuzzBundle(f *testing.F) {
	s := newSigstore(f)
	f.Add(s.json(s.envelope(inToto, statement(imaged, repo)).bundle))
	f.Add(s.json(s.envelope(simpleMedia, string(payload(imaged, repo))).bundle))
	policy := requires(f, newKey(f), `,"rekorPublicKeyData":"`+base64.StdEncoding.EncodeToString(pemOf(f, newKey(f).Public()))+`"`+anyTag)
	keyed := requires(f, newKey(f), anyTag)
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := newRegistry()
		d := digest.FromBytes(raw)
		r.blobs[d] = raw
		r.refer(t, imaged, bundleMedia, &v1.Manifest{Layers: []v1.Descriptor{{MediaType: bundleMedia, Digest: d, Size: int64(len(raw))}}})
		for _, p := range []string{policy, keyed} {
			if err := r.verify(t, p, image, imaged); !errors.Is(err, containerizer.ErrUntrusted) {
				t.Errorf("%q: %v", raw, err)
			}
		}
	})
}

// FuzzStatement has statements that the policy's key did sign.
func FuzzStatement(f *testing.F) {
	f.Add([]byte(statement(imaged, repo)))
	f.Add([]byte(strings.Replace(statement(imaged, repo), "sha256", "gitCommit", 1)))
	k := newKey(f)
	policy := requires(f, k, anyTag)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) == 0 {
			return
		}
		s := &sigstore{tb: t}
		e := &envelope{bundle: map[string]any{
			"mediaType":            bundleMedia,
			"verificationMaterial": map[string]any{"publicKey": map[string]any{}},
			"dsseEnvelope": map[string]any{"payload": raw, "payloadType": inToto, "signatures": []any{map[string]any{
				"sig": rawSignature(t, k, fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(inToto), inToto, len(raw), raw), crypto.SHA256),
			}}},
		}}
		r := newRegistry()
		e.put(s, r)
		err := r.verify(t, policy, image, imaged)
		if err != nil && !errors.Is(err, containerizer.ErrUntrusted) {
			t.Error(err)
		}
		if err == nil && !strings.Contains(string(raw), `\u`) && (!strings.Contains(string(raw), imaged.Encoded()) || !strings.Contains(string(raw), "cosign/sign/v1")) {
			t.Errorf("accepted: %q", raw)
		}
	})
}
