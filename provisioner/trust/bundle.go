package trust

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strconv"

	"github.com/opencontainers/go-digest"
)

// What sigstore bundles are called, as an artifact and in themselves.
const (
	bundleMedia    = "application/vnd.dev.sigstore.bundle.v0.3+json"
	bundleMediaOld = "application/vnd.dev.sigstore.bundle+json;version=0.3"
)

// What a bundle's envelope may hold.
const (
	inTotoMedia   = "application/vnd.in-toto+json"
	statementType = "https://in-toto.io/Statement/v1"
	// signPredicate is cosign's for "this image is signed". A statement about how an
	// image was built, or what is in it, says nothing of that kind.
	signPredicate = "https://sigstore.dev/cosign/sign/v1"
	maxSubjects   = 64
)

// bundled reads a sigstore bundle, version 0.3
// (https://github.com/sigstore/protobuf-specs), into a signature.
func bundled(raw []byte) (s signature) {
	s.bad = s.readBundle(raw)
	return s
}

func (s *signature) readBundle(raw []byte) error {
	top, err := document(raw)
	if err != nil {
		return err
	}
	if err := top.only("mediaType", "verificationMaterial", "messageSignature", "dsseEnvelope"); err != nil {
		return err
	}
	kind, err := top.text("mediaType")
	if err != nil {
		return err
	}
	if kind != bundleMedia && kind != bundleMediaOld {
		return invalid("mediaType", "it is %.100q; bundles of version 0.3 can be read", kind)
	}
	content, err := oneOf(top, "messageSignature", "dsseEnvelope")
	if err != nil {
		return err
	}
	if content == "messageSignature" {
		return invalid(content, "such a signature names no image; those of cosign, in a DSSE envelope, can be verified")
	}
	if err := s.readEnvelope(top); err != nil {
		return err
	}
	if !top.has("verificationMaterial") {
		return invalid("verificationMaterial", "the key is missing")
	}
	m, err := parseObject("verificationMaterial", top.values["verificationMaterial"])
	if err != nil {
		return err
	}
	return s.readMaterial(m)
}

// readEnvelope reads the DSSE envelope (https://github.com/secure-systems-lab/dsse).
func (s *signature) readEnvelope(top object) error {
	o, err := top.object("dsseEnvelope", "payload", "payloadType", "signatures")
	if err != nil {
		return err
	}
	if s.content, err = o.bytes("payload"); err != nil {
		return err
	}
	if s.contentType, err = o.text("payloadType"); err != nil {
		return err
	}
	all, err := array(o.path("signatures"), o.values["signatures"])
	if err != nil {
		return err
	}
	if len(all) != 1 {
		return invalid(o.path("signatures"), "there are %d of them, one is possible", len(all))
	}
	one, err := parseObject(o.path("signatures")+"[0]", all[0])
	if err != nil {
		return err
	}
	if err := one.only("sig", "keyid"); err != nil {
		return err
	}
	if s.signature, err = one.bytes("sig"); err != nil {
		return err
	}
	s.message = fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(s.contentType), s.contentType, len(s.content), s.content)
	return nil
}

// readMaterial reads the certificate and the log's entry. Timestamps of other
// authorities decide nothing.
func (s *signature) readMaterial(m object) error {
	if err := m.only("publicKey", "certificate", "x509CertificateChain", "tlogEntries", "timestampVerificationData"); err != nil {
		return err
	}
	source, err := oneOf(m, "publicKey", "certificate", "x509CertificateChain")
	if err != nil {
		return err
	}
	switch source {
	case "x509CertificateChain":
		return invalid(m.path(source), "version 0.3 has none")
	case "certificate":
		c, err := m.object(source, "rawBytes")
		if err != nil {
			return err
		}
		der, err := c.bytes("rawBytes")
		if err != nil {
			return err
		}
		s.certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	if m.has("tlogEntries") && string(m.values["tlogEntries"]) != "[]" {
		s.entry, s.badEntry = bundledEntry(m)
	}
	return nil
}

// bundledEntry reads the log's entry.
func bundledEntry(m object) (*logEntry, error) {
	at := m.path("tlogEntries")
	all, err := array(at, m.values["tlogEntries"])
	if err != nil {
		return nil, err
	}
	if len(all) != 1 {
		return nil, invalid(at, "there are %d of them, one is possible", len(all))
	}
	o, err := parseObject(at+"[0]", all[0])
	if err != nil {
		return nil, err
	}
	if err := o.only("logIndex", "logId", "kindVersion", "integratedTime", "inclusionPromise", "inclusionProof", "canonicalizedBody"); err != nil {
		return nil, err
	}
	if !o.has("inclusionPromise") {
		return nil, invalid(o.path("inclusionPromise"), "the key is missing; the log's signed timestamp is what can be verified")
	}
	e := &logEntry{}
	promise, err := o.object("inclusionPromise", "signedEntryTimestamp")
	if err != nil {
		return nil, err
	}
	if e.set, err = promise.bytes("signedEntryTimestamp"); err != nil {
		return nil, err
	}
	body, err := o.bytes("canonicalizedBody")
	if err != nil {
		return nil, err
	}
	e.body = base64.StdEncoding.EncodeToString(body)
	id, err := o.object("logId", "keyId")
	if err != nil {
		return nil, err
	}
	key, err := id.bytes("keyId")
	if err != nil {
		return nil, err
	}
	e.id = hex.EncodeToString(key)
	if e.time, err = o.protoNumber("integratedTime"); err != nil {
		return nil, err
	}
	if o.has("logIndex") { // 0 is left out
		e.index, err = o.protoNumber("logIndex")
	}
	return e, err
}

// protoNumber is number in the JSON of protocol buffers, which has strings for
// 64 bits.
func (o object) protoNumber(key string) (int64, error) {
	var s string
	if json.Unmarshal(o.values[key], &s) != nil {
		return o.number(key)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, invalid(o.path(key), "it is not an integer")
	}
	return n, nil
}

// parseStatement reads an in-toto statement whose signature was verified.
func parseStatement(raw []byte) ([]claim, error) {
	top, err := document(raw)
	if err != nil {
		return nil, err
	}
	if err := top.only("_type", "subject", "predicateType", "predicate"); err != nil {
		return nil, err
	}
	for key, want := range map[string]string{"_type": statementType, "predicateType": signPredicate} {
		got, err := top.text(key)
		if err != nil {
			return nil, err
		}
		if got != want {
			return nil, invalid(key, "it is %.200q; what says that an image is signed has %q", got, want)
		}
	}
	if !top.has("subject") {
		return nil, invalid("subject", "the key is missing")
	}
	all, err := array("subject", top.values["subject"])
	if err != nil {
		return nil, err
	}
	if len(all) > maxSubjects {
		return nil, invalid("subject", "there are %d of them, at most %d are looked at", len(all), maxSubjects)
	}
	var out []claim
	for n, raw := range all {
		o, err := parseObject(fmt.Sprintf("subject[%d]", n), raw)
		if err != nil {
			return nil, err
		}
		c, err := parseSubject(o)
		if err != nil {
			return nil, err
		}
		out = append(out, c...)
	}
	return out, nil
}

// parseSubject returns a claim for each digest of a subject.
func parseSubject(o object) (out []claim, _ error) {
	if err := o.only("name", "uri", "digest", "content", "downloadLocation", "mediaType", "annotations"); err != nil {
		return nil, err
	}
	var name reference
	if o.has("name") && string(o.values["name"]) != `""` {
		s, err := o.text("name")
		if err != nil {
			return nil, err
		}
		if name, err = parseReference(s); err != nil {
			return nil, fmt.Errorf("%s: %w", o.path("name"), err)
		}
	}
	if !o.has("digest") {
		return nil, invalid(o.path("digest"), "the key is missing")
	}
	all, err := parseObject(o.path("digest"), o.values["digest"])
	if err != nil {
		return nil, err
	}
	for _, algorithm := range all.keys {
		value, err := all.text(algorithm)
		if err != nil {
			return nil, err
		}
		if d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), value); d.Validate() == nil { // there are other algorithms than images have
			out = append(out, claim{digest: d, name: name})
		}
	}
	return out, nil
}
