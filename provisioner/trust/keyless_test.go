package trust_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

const (
	annotationSignature   = "dev.cosignproject.cosign/signature"
	annotationCertificate = "dev.sigstore.cosign/certificate"
	annotationChain       = "dev.sigstore.cosign/chain"
	annotationBundle      = "dev.sigstore.cosign/bundle"

	signer     = "builds@example.com"
	oidcIssuer = "https://accounts.example.com"
)

// sigstore is a Fulcio, with a root and an intermediate authority, and a Rekor.
type sigstore struct {
	tb           testing.TB
	root, middle *x509.Certificate
	middleKey    crypto.Signer
	rekor        crypto.Signer
	now          time.Time // some time ago: certificates are not valid today
}

func newSigstore(tb testing.TB) *sigstore {
	tb.Helper()
	s := &sigstore{tb: tb, rekor: newKey(tb), middleKey: newKey(tb), now: time.Now().Add(-30 * 24 * time.Hour)}
	rootKey := newKey(tb)
	ca := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: s.now.Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
	}
	root := ca("root")
	s.root = s.create(root, root, rootKey.Public(), rootKey)
	s.middle = s.create(ca("intermediate"), s.root, s.middleKey.Public(), rootKey)
	return s
}

func (s *sigstore) create(template, parent *x509.Certificate, key crypto.PublicKey, by crypto.Signer) *x509.Certificate {
	s.tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, by)
	if err != nil {
		s.tb.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		s.tb.Fatal(err)
	}
	return c
}

func certPEM(all ...*x509.Certificate) (out string) {
	for _, c := range all {
		out += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return out
}

// issuerExtensions are what Fulcio writes: the issuer as bytes, and as a string.
func issuerExtensions(first, second string) (out []pkix.Extension) {
	if first != "" {
		out = append(out, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}, Value: []byte(first)})
	}
	if second != "" {
		raw, _ := asn1.MarshalWithParams(second, "utf8") // a string can be marshalled
		out = append(out, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}, Value: raw})
	}
	return out
}

// leaf is a certificate as Fulcio gives one, for ten minutes.
func (s *sigstore) leaf(key crypto.Signer, spoil func(*x509.Certificate)) *x509.Certificate {
	s.tb.Helper()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: s.now, NotAfter: s.now.Add(10 * time.Minute), EmailAddresses: []string{signer},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		ExtraExtensions: issuerExtensions(oidcIssuer, oidcIssuer),
	}
	if spoil != nil {
		spoil(t)
	}
	return s.create(t, s.middle, key.Public(), s.middleKey)
}

// record is the body of a log's entry about a signature.
func record(message, signature []byte, verifier string) map[string]any {
	sum := sha256.Sum256(message)
	return map[string]any{
		"apiVersion": "0.0.1", "kind": "hashedrekord",
		"spec": map[string]any{
			"data":      map[string]any{"hash": map[string]any{"algorithm": "sha256", "value": hex.EncodeToString(sum[:])}},
			"signature": map[string]any{"content": signature, "publicKey": map[string]any{"content": []byte(verifier)}},
		},
	}
}

// entry is what the log says about a body at a time. encoding/json sorts the keys of
// maps by bytes, which for these is canonical.
func (s *sigstore) entry(body any, at time.Time, by crypto.Signer) (payload map[string]any, set []byte) {
	s.tb.Helper()
	der, err := x509.MarshalPKIXPublicKey(s.rekor.Public())
	if err != nil {
		s.tb.Fatal(err)
	}
	id := sha256.Sum256(der)
	payload = map[string]any{"body": s.json(body), "integratedTime": at.Unix(), "logIndex": 1234567, "logID": hex.EncodeToString(id[:])}
	return payload, rawSignature(s.tb, by, s.json(payload), crypto.SHA256)
}

func (s *sigstore) json(v any) []byte {
	s.tb.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		s.tb.Fatal(err)
	}
	return raw
}

// bundle is cosign's annotation.
func (s *sigstore) bundle(payload any, set []byte) string {
	s.tb.Helper()
	return string(s.json(map[string]any{"SignedEntryTimestamp": set, "Payload": payload}))
}

// log makes the annotation of a signature that was logged.
func (s *sigstore) log(message, signature []byte, verifier string, at time.Time) string {
	s.tb.Helper()
	return s.bundle(s.entry(record(message, signature, verifier), at, s.rekor))
}

// attempt is a keyless signature under way; what changes it decides what is made.
type attempt struct {
	key         crypto.Signer
	leaf        *x509.Certificate
	payload     []byte
	annotations map[string]string
	signature   []byte
}

func (s *sigstore) attempt(payload []byte, spoil func(*x509.Certificate)) *attempt {
	s.tb.Helper()
	a := &attempt{key: newKey(s.tb), payload: payload}
	a.leaf = s.leaf(a.key, spoil)
	a.signature = rawSignature(s.tb, a.key, payload, crypto.SHA256)
	a.annotations = map[string]string{
		annotationSignature:   base64.StdEncoding.EncodeToString(a.signature),
		annotationCertificate: certPEM(a.leaf),
		annotationChain:       certPEM(s.middle, s.root),
		annotationBundle:      s.log(payload, a.signature, certPEM(a.leaf), s.now.Add(time.Minute)),
	}
	return a
}

// policy is one that wants signatures of the signer.
func (s *sigstore) policy() string {
	s.tb.Helper()
	return s.policyOf(certPEM(s.root))
}

// policyOf is policy with other authorities.
func (s *sigstore) policyOf(authorities string) string {
	s.tb.Helper()
	return file(s.tb, "policy.json", fmt.Appendf(nil, `{"default":[{"type":"sigstoreSigned","fulcio":{"caPath":%q,"oidcIssuer":%q,"subjectEmail":%q},"rekorPublicKeyData":%q%s}]}`,
		file(s.tb, "ca.pem", []byte(authorities)), oidcIssuer, signer, base64.StdEncoding.EncodeToString(pemOf(s.tb, s.rekor.Public())), anyTag))
}

// edit changes the log's entry that an annotation holds.
func edit(tb testing.TB, annotations map[string]string, change func(bundle, payload map[string]any)) {
	tb.Helper()
	var bundle map[string]any
	d := json.NewDecoder(strings.NewReader(annotations[annotationBundle]))
	d.UseNumber()
	if err := d.Decode(&bundle); err != nil {
		tb.Fatal(err)
	}
	payload, _ := bundle["Payload"].(map[string]any)
	change(bundle, payload)
	raw, err := json.Marshal(bundle)
	if err != nil {
		tb.Fatal(err)
	}
	annotations[annotationBundle] = string(raw)
}

// TestKeyless changes one thing of a good keyless signature at a time.
func TestKeyless(t *testing.T) {
	s := newSigstore(t)
	good := payload(imaged, repo)
	otherSigned := s.attempt(payload(other, repo), nil)
	again := func(body map[string]any) func(*attempt) { // another entry that the log did sign
		return func(a *attempt) {
			a.annotations[annotationBundle] = s.bundle(s.entry(body, s.now.Add(time.Minute), s.rekor))
		}
	}
	at := func(d time.Duration) func(*attempt) {
		return func(a *attempt) {
			a.annotations[annotationBundle] = s.log(a.payload, a.signature, certPEM(a.leaf), s.now.Add(d))
		}
	}
	drop := func(key string) func(*attempt) { return func(a *attempt) { delete(a.annotations, key) } }
	set := func(key, value string) func(*attempt) { return func(a *attempt) { a.annotations[key] = value } }
	for name, c := range map[string]struct {
		payload []byte // nil is a good one
		leaf    func(*x509.Certificate)
		change  func(*attempt)
		want    string
	}{
		"good":                    {},
		"issuer as bytes only":    {leaf: func(c *x509.Certificate) { c.ExtraExtensions = issuerExtensions(oidcIssuer, "") }},
		"issuer as a string only": {leaf: func(c *x509.Certificate) { c.ExtraExtensions = issuerExtensions("", oidcIssuer) }},
		"one of two addresses":    {leaf: func(c *x509.Certificate) { c.EmailAddresses = []string{"x@example.com", signer} }},
		"spaces in the entry": {change: func(a *attempt) {
			a.annotations[annotationBundle] = strings.ReplaceAll(a.annotations[annotationBundle], `":`, "\" :\n")
		}},
		"logged in the last second": {change: at(10 * time.Minute)},

		"another address":          {leaf: func(c *x509.Certificate) { c.EmailAddresses = []string{"evil@example.com"} }, want: `its certificate is for "evil@example.com"; the policy wants "builds@example.com"`},
		"address in other letters": {leaf: func(c *x509.Certificate) { c.EmailAddresses = []string{"Builds@example.com"} }, want: "the policy wants"},
		"address in the subject":   {leaf: func(c *x509.Certificate) { c.EmailAddresses = nil; c.Subject.CommonName = signer }, want: "is for nobody that it names"},
		"address as a URI": {leaf: func(c *x509.Certificate) {
			c.EmailAddresses = nil
			c.URIs = []*url.URL{{Scheme: "mailto", Opaque: signer}}
		}, want: "the policy wants"},
		"another issuer": {leaf: func(c *x509.Certificate) {
			c.ExtraExtensions = issuerExtensions("https://evil.example", "https://evil.example")
		}, want: `known to "https://evil.example"`},
		"two issuers": {leaf: func(c *x509.Certificate) { c.ExtraExtensions = issuerExtensions(oidcIssuer, "https://evil.example") }, want: "it names two issuers"},
		"no issuer":   {leaf: func(c *x509.Certificate) { c.ExtraExtensions = nil }, want: "does not say who issued"},
		"malformed issuer": {leaf: func(c *x509.Certificate) {
			c.ExtraExtensions = issuerExtensions("", oidcIssuer)
			c.ExtraExtensions[0].Value = append(c.ExtraExtensions[0].Value, 0)
		}, want: "is malformed"},
		"not for signing code":   {leaf: func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, want: "for signing"},
		"logged after it ended":  {change: at(11 * time.Minute), want: "expired"},
		"logged before it began": {change: at(-time.Minute), want: "not yet valid"},
		"of another authority": {change: func(a *attempt) {
			evil := newSigstore(t)
			evil.now = s.now
			a.leaf = evil.leaf(a.key, nil)
			a.annotations[annotationCertificate], a.annotations[annotationChain] = certPEM(a.leaf), certPEM(evil.middle, evil.root)
			a.annotations[annotationBundle] = s.log(a.payload, a.signature, certPEM(a.leaf), s.now.Add(time.Minute))
		}, want: "not one of the policy's authority"},
		"of another authority, with our chain": {change: func(a *attempt) {
			a.leaf = newSigstore(t).leaf(a.key, nil)
			a.annotations[annotationCertificate] = certPEM(a.leaf)
			a.annotations[annotationBundle] = s.log(a.payload, a.signature, certPEM(a.leaf), s.now.Add(time.Minute))
		}, want: "not one of the policy's authority"},
		"no chain":            {change: drop(annotationChain), want: "not one of the policy's authority"},
		"chain of nonsense":   {change: set(annotationChain, "x"), want: "its chain of certificates: there is something else"},
		"chain of a key":      {change: set(annotationChain, string(pemOf(t, newKey(t).Public()))), want: `type "PUBLIC KEY"`},
		"long chain":          {change: set(annotationChain, certPEM(s.middle, s.middle, s.middle, s.middle, s.middle, s.middle, s.middle, s.middle, s.root)), want: "its chain has 9 certificates"},
		"no certificate":      {change: drop(annotationCertificate), want: "it has no certificate"},
		"two certificates":    {change: func(a *attempt) { a.annotations[annotationCertificate] += certPEM(s.middle) }, want: "it has 2 certificates"},
		"certificate cut off": {change: func(a *attempt) { a.annotations[annotationCertificate] = a.annotations[annotationCertificate][:200] }, want: "something else"},
		"certificate of another key": {change: func(a *attempt) {
			k := newKey(t)
			a.leaf = s.leaf(k, nil)
			a.annotations[annotationCertificate] = certPEM(a.leaf)
			a.annotations[annotationBundle] = s.log(a.payload, a.signature, certPEM(a.leaf), s.now.Add(time.Minute))
		}, want: "not made with the key of its certificate"},
		"an unlogged certificate of the same key": {change: func(a *attempt) { a.annotations[annotationCertificate] = certPEM(s.leaf(a.key, nil)) }, want: "another key or certificate"},
		"weak curve": {change: func(a *attempt) {
			k, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			*a = *s.signedBy(k, good)
		}, want: "its curve is P-224"},

		"not logged":                 {change: drop(annotationBundle), want: "it has no entry of a transparency log"},
		"entry of another signature": {change: set(annotationBundle, otherSigned.annotations[annotationBundle]), want: "its log entry is for another signature"},
		"signed by another log": {change: func(a *attempt) {
			a.annotations[annotationBundle] = s.bundle(s.entry(record(a.payload, a.signature, certPEM(a.leaf)), s.now.Add(time.Minute), newKey(t)))
		}, want: "not signed with the policy's Rekor key"},
		"signed by the signer": {change: func(a *attempt) {
			a.annotations[annotationBundle] = s.bundle(s.entry(record(a.payload, a.signature, certPEM(a.leaf)), s.now.Add(time.Minute), a.key))
		}, want: "not signed with the policy's Rekor key"},
		"another time": {change: func(a *attempt) {
			edit(t, a.annotations, func(_, p map[string]any) { p["integratedTime"] = s.now.Add(2 * time.Minute).Unix() })
		}, want: "not signed with"},
		"another index":  {change: func(a *attempt) { edit(t, a.annotations, func(_, p map[string]any) { p["logIndex"] = 1 }) }, want: "not signed with"},
		"another log ID": {change: func(a *attempt) { edit(t, a.annotations, func(_, p map[string]any) { p["logID"] = "00" }) }, want: "not signed with"},
		"another body": {change: func(a *attempt) {
			edit(t, a.annotations, func(_, p map[string]any) { p["body"] = base64.StdEncoding.EncodeToString([]byte("{}")) })
		}, want: "not signed with"},
		"body that is not base64": {change: func(a *attempt) {
			edit(t, a.annotations, func(_, p map[string]any) { p["body"] = `","integratedTime":1,"x":"` })
		}, want: "not base64"},
		"body in two lines": {change: func(a *attempt) {
			edit(t, a.annotations, func(_, p map[string]any) { p["body"] = p["body"].(string) + "\n" })
		}, want: "not base64"},
		"log ID that is not hexadecimal": {change: func(a *attempt) { edit(t, a.annotations, func(_, p map[string]any) { p["logID"] = `"` }) }, want: "not hexadecimal"},
		"no time":                        {change: func(a *attempt) { edit(t, a.annotations, func(_, p map[string]any) { p["integratedTime"] = 0 }) }, want: "impossible time"},
		"time as a string":               {change: func(a *attempt) { edit(t, a.annotations, func(_, p map[string]any) { p["integratedTime"] = "1" }) }, want: "Payload.integratedTime: it is not an integer"},
		"large index": {change: func(a *attempt) {
			edit(t, a.annotations, func(_, p map[string]any) { p["logIndex"] = json.Number("9007199254740993") })
		}, want: "impossible time or index"},
		"more in the entry": {change: func(a *attempt) { edit(t, a.annotations, func(_, p map[string]any) { p["x"] = 1 }) }, want: "Payload.x: there is no such key"},
		"no payload":        {change: func(a *attempt) { edit(t, a.annotations, func(b, _ map[string]any) { delete(b, "Payload") }) }, want: "Payload: the key is missing"},
		"no timestamp": {change: func(a *attempt) {
			edit(t, a.annotations, func(b, _ map[string]any) { delete(b, "SignedEntryTimestamp") })
		}, want: "SignedEntryTimestamp: the key is missing"},
		"empty timestamp": {change: func(a *attempt) { edit(t, a.annotations, func(b, _ map[string]any) { b["SignedEntryTimestamp"] = "" }) }, want: "SignedEntryTimestamp: it is empty"},
		"time there twice": {change: func(a *attempt) {
			a.annotations[annotationBundle] = strings.Replace(a.annotations[annotationBundle], `"integratedTime"`, `"integratedTime":1,"integratedTime"`, 1)
		}, want: "the key is there twice"},
		"entry cut off":            {change: func(a *attempt) { a.annotations[annotationBundle] = a.annotations[annotationBundle][:100] }, want: "it is not JSON"},
		"entry of another kind":    {change: again(map[string]any{"apiVersion": "0.0.1", "kind": "rekord", "spec": map[string]any{}}), want: `"rekord" in version "0.0.1" cannot be read`},
		"entry of a later version": {change: again(map[string]any{"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": map[string]any{}}), want: "cannot be read"},
		"entry of nothing":         {change: again(map[string]any{"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": map[string]any{}}), want: "spec.data: the key is missing"},
		"entry of another payload": {change: func(a *attempt) {
			a.annotations[annotationBundle] = s.bundle(s.entry(record([]byte("x"), a.signature, certPEM(a.leaf)), s.now.Add(time.Minute), s.rekor))
		}, want: "its log entry is for another payload"},
		"entry with another hash": {change: func(a *attempt) {
			r := record(a.payload, a.signature, certPEM(a.leaf))
			r["spec"].(map[string]any)["data"] = map[string]any{"hash": map[string]any{"algorithm": "sha512", "value": "00"}}
			again(r)(a)
		}, want: `it is "sha512", not "sha256"`},
		"entry of the bare key": {change: func(a *attempt) {
			a.annotations[annotationBundle] = s.log(a.payload, a.signature, string(pemOf(t, a.key.Public())), s.now.Add(time.Minute))
		}, want: "another key or certificate"},
		"entry of two certificates": {change: func(a *attempt) {
			a.annotations[annotationBundle] = s.log(a.payload, a.signature, certPEM(a.leaf, s.middle), s.now.Add(time.Minute))
		}, want: "it is not one PEM block"},

		"of another image":    {payload: payload(other, repo), want: "it is for another image"},
		"under another name":  {payload: payload(imaged, "registry.example/team/evil"), want: "it is for the name"},
		"payload exchanged":   {change: func(a *attempt) { a.payload = payload(imaged, "registry.example/team/evil") }, want: "another payload"},
		"signature exchanged": {change: set(annotationSignature, otherSigned.annotations[annotationSignature]), want: "another signature"},
		"signature cut off": {change: func(a *attempt) {
			a.annotations[annotationSignature] = base64.StdEncoding.EncodeToString(a.signature[:20])
		}, want: "another signature"},
	} {
		t.Run(name, func(t *testing.T) {
			p := c.payload
			if p == nil {
				p = good
			}
			a := s.attempt(p, c.leaf)
			if c.change != nil {
				c.change(a)
			}
			r, sg := newRegistry(), &sigs{}
			r.add(sg, a.payload, a.annotations)
			r.put(t, imaged, sg)
			err := r.verify(t, s.policy(), image, imaged)
			if c.want == "" && err != nil {
				t.Fatal(err)
			}
			if c.want != "" && (!errors.Is(err, containerizer.ErrUntrusted) || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if c.want == "" {
				return
			}
			b := s.attempt(good, nil) // a good one beside it counts
			r.add(sg, b.payload, b.annotations)
			r.put(t, imaged, sg)
			if err := r.verify(t, s.policy(), image, imaged); err != nil {
				t.Errorf("beside a good one: %v", err)
			}
		})
	}
}

// signedBy is attempt with a key.
func (s *sigstore) signedBy(k crypto.Signer, p []byte) *attempt {
	s.tb.Helper()
	a := &attempt{key: k, payload: p, leaf: s.leaf(k, nil), signature: rawSignature(s.tb, k, p, crypto.SHA256)}
	a.annotations = map[string]string{
		annotationSignature: base64.StdEncoding.EncodeToString(a.signature), annotationCertificate: certPEM(a.leaf),
		annotationChain: certPEM(s.middle, s.root), annotationBundle: s.log(p, a.signature, certPEM(a.leaf), s.now.Add(time.Minute)),
	}
	return a
}

// TestKeylessPolicies has one good signature under several policies.
func TestKeylessPolicies(t *testing.T) {
	s := newSigstore(t)
	a := s.attempt(payload(imaged, repo), nil)
	r, sg := newRegistry(), &sigs{}
	r.add(sg, a.payload, a.annotations)
	r.put(t, imaged, sg)
	rekor := base64.StdEncoding.EncodeToString(pemOf(t, s.rekor.Public()))
	wrong := base64.StdEncoding.EncodeToString(pemOf(t, newKey(t).Public()))
	ca := base64.StdEncoding.EncodeToString([]byte(certPEM(s.root)))
	evil := base64.StdEncoding.EncodeToString([]byte(certPEM(newSigstore(t).root)))
	both := base64.StdEncoding.EncodeToString([]byte("# ours\n" + certPEM(newSigstore(t).root, s.root)))
	fulcio := func(ca, email string) string {
		return `"fulcio":{"caData":"` + ca + `","oidcIssuer":"` + oidcIssuer + `","subjectEmail":"` + email + `"}`
	}
	for name, c := range map[string]struct {
		requirement string
		want        error
		text        string
	}{
		"data":                          {fulcio(ca, signer) + `,"rekorPublicKeyData":"` + rekor + `"`, nil, ""},
		"paths of the log":              {fulcio(ca, signer) + fmt.Sprintf(`,"rekorPublicKeyPaths":[%q]`, file(t, "rekor.pub", pemOf(t, s.rekor.Public()))), nil, ""},
		"one of two logs":               {fulcio(ca, signer) + `,"rekorPublicKeyDatas":["` + wrong + `","` + rekor + `"]`, nil, ""},
		"two authorities":               {fulcio(both, signer) + `,"rekorPublicKeyData":"` + rekor + `"`, nil, ""},
		"another log":                   {fulcio(ca, signer) + `,"rekorPublicKeyData":"` + wrong + `"`, containerizer.ErrUntrusted, "the policy's Rekor key"},
		"another authority":             {fulcio(evil, signer) + `,"rekorPublicKeyData":"` + rekor + `"`, containerizer.ErrUntrusted, "the policy's authority"},
		"another signer":                {fulcio(ca, "x@example.com") + `,"rekorPublicKeyData":"` + rekor + `"`, containerizer.ErrUntrusted, `wants "x@example.com"`},
		"authority without certificate": {fulcio("QUJD", signer) + `,"rekorPublicKeyData":"` + rekor + `"`, containerizer.ErrInvalid, "default[0].fulcio.caData: there is something else"},
		"authority is a key":            {fulcio(rekor, signer) + `,"rekorPublicKeyData":"` + rekor + `"`, containerizer.ErrInvalid, `type "PUBLIC KEY"`},
		"log's key is a certificate":    {fulcio(ca, signer) + `,"rekorPublicKeyData":"` + ca + `"`, containerizer.ErrInvalid, "default[0].rekorPublicKeyData"},
		"log's key is RSA": {
			fulcio(ca, signer) + `,"rekorPublicKeyData":"` + base64.StdEncoding.EncodeToString(pemOf(t, keys(t)["RSA"].Public())) + `"`, containerizer.ErrInvalid, "not an ECDSA key",
		},
		"a key instead": {`"keyData":"` + base64.StdEncoding.EncodeToString(pemOf(t, a.key.Public())) + `"`, nil, ""}, // it is one, whoever certified it
	} {
		policy := file(t, "policy.json", []byte(`{"default":[{"type":"sigstoreSigned",`+c.requirement+anyTag+`}]}`))
		if err := r.verify(t, policy, image, imaged); !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %v %q", name, err, c.want, c.text)
		}
	}
}

// TestLogged has signatures by keys that a log must know.
func TestLogged(t *testing.T) {
	s := newSigstore(t)
	k, second := newKey(t), newKey(t)
	p := payload(imaged, repo)
	sign := func(k crypto.Signer) map[string]string {
		signature := rawSignature(t, k, p, crypto.SHA256)
		return map[string]string{
			annotationSignature: base64.StdEncoding.EncodeToString(signature),
			annotationBundle:    s.log(p, signature, string(pemOf(t, k.Public())), time.Now()),
		}
	}
	good := sign(k)
	change := func(key, value string) map[string]string {
		m := maps.Clone(good)
		m[key] = value
		return m
	}
	data := func(k crypto.Signer) string { return base64.StdEncoding.EncodeToString(pemOf(t, k.Public())) }
	rekor := `,"rekorPublicKeyData":"` + data(s.rekor) + `"`
	one, two := `"keyData":"`+data(k)+`"`, `"keyDatas":["`+data(second)+`","`+data(k)+`"]`
	for name, c := range map[string]struct {
		annotations map[string]string
		requirement string
		want        string
	}{
		"good":                 {good, one + rekor, ""},
		"one of two keys":      {good, two + rekor, ""},
		"other of two keys":    {sign(second), two + rekor, ""},
		"no log wanted":        {change(annotationBundle, "nonsense"), one, ""},
		"not logged":           {change(annotationBundle, ""), one + rekor, "no entry of a transparency log"},
		"nonsense":             {change(annotationBundle, "nonsense"), one + rekor, "its log entry: it is not JSON"},
		"entry of second key":  {change(annotationBundle, sign(second)[annotationBundle]), two + rekor, "another signature"},
		"key not the policy's": {sign(newKey(t)), two + rekor, "another key or certificate"},
		"signature by another key than the entry says": {
			func() map[string]string {
				m := sign(second)
				raw, err := base64.StdEncoding.DecodeString(m[annotationSignature])
				if err != nil {
					t.Fatal(err)
				}
				m[annotationBundle] = s.log(p, raw, string(pemOf(t, k.Public())), time.Now())
				return m
			}(), two + rekor, "not made with the policy's key",
		},
		"another log": {good, one + `,"rekorPublicKeyData":"` + data(second) + `"`, "the policy's Rekor key"},
	} {
		r, sg := newRegistry(), &sigs{}
		r.add(sg, p, c.annotations)
		r.put(t, imaged, sg)
		policy := file(t, "policy.json", []byte(`{"default":[{"type":"sigstoreSigned",`+c.requirement+anyTag+`}]}`))
		err := r.verify(t, policy, image, imaged)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, containerizer.ErrUntrusted) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// TestPKI has certificates of an authority of one's own, which are valid today.
func TestPKI(t *testing.T) {
	s := newSigstore(t)
	p := payload(imaged, repo)
	today := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter, c.ExtraExtensions, c.DNSNames = time.Now().Add(-time.Hour), time.Now().Add(time.Hour), nil, []string{"builds.example.com"}
	}
	root := `"caRootsData":"` + base64.StdEncoding.EncodeToString([]byte(certPEM(s.root))) + `"`
	middle := `,"caIntermediatesData":"` + base64.StdEncoding.EncodeToString([]byte(certPEM(s.middle))) + `"`
	email, host := `,"subjectEmail":"`+signer+`"`, `,"subjectHostname":"builds.example.com"`
	for name, c := range map[string]struct {
		pki    string
		leaf   func(*x509.Certificate)
		change func(*attempt)
		want   string
	}{
		"chain":                    {pki: root + email},
		"intermediate":             {pki: root + middle + email, change: func(a *attempt) { delete(a.annotations, annotationChain) }},
		"host":                     {pki: root + host},
		"host and address":         {pki: root + host + email},
		"neither chain nor policy": {pki: root + email, change: func(a *attempt) { delete(a.annotations, annotationChain) }, want: "not one of the policy's authority"},
		"over":                     {pki: root + email, leaf: func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, want: "valid now"},
		"another address":          {pki: root + `,"subjectEmail":"x@example.com"`, want: "the policy wants"},
		"another host":             {pki: root + email + `,"subjectHostname":"x.example.com"`, want: `the policy wants the host "x.example.com"`},
		"no certificate":           {pki: root + email, change: func(a *attempt) { delete(a.annotations, annotationCertificate) }, want: "it has no certificate"},
		"certificate of another key": {
			pki: root + email, change: func(a *attempt) { a.annotations[annotationCertificate] = certPEM(s.leaf(newKey(t), today)) }, want: "not made with the key of its certificate",
		},
		"not for signing": {pki: root + email, leaf: func(c *x509.Certificate) {
			c.ExtKeyUsage = nil
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}, want: "for signing"},
	} {
		a := s.attempt(p, func(l *x509.Certificate) {
			today(l)
			if c.leaf != nil {
				c.leaf(l)
			}
		})
		delete(a.annotations, annotationBundle)
		if c.change != nil {
			c.change(a)
		}
		r, sg := newRegistry(), &sigs{}
		r.add(sg, a.payload, a.annotations)
		r.put(t, imaged, sg)
		policy := file(t, "policy.json", []byte(`{"default":[{"type":"sigstoreSigned","pki":{`+c.pki+`}`+anyTag+`}]}`))
		err := r.verify(t, policy, image, imaged)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, containerizer.ErrUntrusted) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// FuzzLogEntry has annotations of which the log signed none.
func FuzzLogEntry(f *testing.F) {
	s := newSigstore(f)
	a := s.attempt(payload(imaged, repo), nil)
	f.Add(a.annotations[annotationBundle], a.annotations[annotationCertificate], a.annotations[annotationChain])
	f.Add(`{"SignedEntryTimestamp":"AA==","Payload":{"body":"e30=","integratedTime":1,"logIndex":0,"logID":"00"}}`, "", "")
	policy := s.policy()
	f.Fuzz(func(t *testing.T, bundle, certificate, chain string) {
		m := maps.Clone(a.annotations)
		m[annotationBundle], m[annotationCertificate], m[annotationChain] = bundle, certificate, chain
		r, sg := newRegistry(), &sigs{}
		r.add(sg, a.payload, m)
		r.put(t, imaged, sg)
		err := r.verify(t, policy, image, imaged)
		if err != nil && !errors.Is(err, containerizer.ErrUntrusted) {
			t.Error(err)
		}
		if err == nil && !sameEntry(bundle, a.annotations[annotationBundle]) {
			t.Errorf("accepted: %q", bundle)
		}
	})
}

// sameEntry says whether two annotations hold the same values.
func sameEntry(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && fmt.Sprint(x) == fmt.Sprint(y)
}

// FuzzRecord has bodies that the log did sign.
func FuzzRecord(f *testing.F) {
	s := newSigstore(f)
	a := s.attempt(payload(imaged, repo), nil)
	f.Add(s.json(record(a.payload, a.signature, certPEM(a.leaf))))
	f.Add([]byte(`{"apiVersion":"0.0.1","kind":"dsse","spec":{"envelopeHash":{},"payloadHash":{"algorithm":"sha256","value":"00"},"signatures":[{"signature":"AA==","verifier":"AA=="}]}}`))
	policy := s.policy()
	f.Fuzz(func(t *testing.T, body []byte) {
		s := *s
		s.tb = t
		m := maps.Clone(a.annotations)
		der, err := x509.MarshalPKIXPublicKey(s.rekor.Public())
		if err != nil {
			t.Fatal(err)
		}
		id := sha256.Sum256(der)
		p := map[string]any{"body": body, "integratedTime": s.now.Add(time.Minute).Unix(), "logIndex": 1, "logID": hex.EncodeToString(id[:])}
		m[annotationBundle] = s.bundle(p, rawSignature(t, s.rekor, s.json(p), crypto.SHA256))
		r, sg := newRegistry(), &sigs{}
		r.add(sg, a.payload, m)
		r.put(t, imaged, sg)
		err = r.verify(t, policy, image, imaged)
		if err != nil && !errors.Is(err, containerizer.ErrUntrusted) {
			t.Error(err)
		}
		sum := sha256.Sum256(a.payload)
		if err == nil && !strings.Contains(strings.ToLower(string(body)), hex.EncodeToString(sum[:])) && !strings.Contains(string(body), `\u`) {
			t.Errorf("accepted: %q", body)
		}
	})
}
