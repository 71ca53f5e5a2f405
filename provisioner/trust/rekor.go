package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// logEntry is what a transparency log (Rekor) says about a signature that it was
// told of. Nothing of it counts before verify.
type logEntry struct {
	set  []byte // the signed entry timestamp
	body string // base64
	time int64  // seconds, when the log got it
	// index and id are where the entry is; they are signed with the rest.
	index int64
	id    string // hex
}

// maxExact is the largest number that canonical JSON (RFC 8785) writes as it is.
const maxExact = 1 << 53

// errNoEntry is a signature that no log is said to know.
var errNoEntry = errors.New("it has no entry of a transparency log (cosign's annotation " + annotationBundle + "), which the policy's Rekor key asks for")

// parseLogEntry reads the entry that cosign puts beside a signature.
func parseLogEntry(raw []byte) (*logEntry, error) {
	top, err := document(raw)
	if err != nil {
		return nil, err
	}
	if err := exactly(top, "SignedEntryTimestamp", "Payload"); err != nil {
		return nil, err
	}
	e := &logEntry{}
	if e.set, err = top.bytes("SignedEntryTimestamp"); err != nil {
		return nil, err
	}
	p, err := parseObject("Payload", top.values["Payload"])
	if err != nil {
		return nil, err
	}
	if err := exactly(p, "body", "integratedTime", "logIndex", "logID"); err != nil {
		return nil, err
	}
	if e.body, err = p.text("body"); err != nil {
		return nil, err
	}
	if e.time, err = p.number("integratedTime"); err != nil {
		return nil, err
	}
	if e.index, err = p.number("logIndex"); err != nil {
		return nil, err
	}
	e.id, err = p.text("logID")
	return e, err
}

// verify says when the log got the entry, if one of its keys signed it. What is
// signed is canonical JSON (RFC 8785), which is written here: there are two strings
// in it that need no escapes, and two numbers.
func (e *logEntry) verify(keys []*ecdsa.PublicKey) (time.Time, error) {
	body, err := base64.StdEncoding.DecodeString(e.body)
	if err != nil || base64.StdEncoding.EncodeToString(body) != e.body {
		return time.Time{}, errors.New("its log entry has a body that is not base64")
	}
	if id, err := hex.DecodeString(e.id); err != nil || hex.EncodeToString(id) != e.id {
		return time.Time{}, errors.New("its log entry has a log ID that is not hexadecimal")
	}
	if e.time <= 0 || e.time > maxExact || e.index < 0 || e.index > maxExact {
		return time.Time{}, errors.New("its log entry has an impossible time or index")
	}
	sum := sha256.Sum256([]byte(`{"body":"` + e.body + `","integratedTime":` + strconv.FormatInt(e.time, 10) +
		`,"logID":"` + e.id + `","logIndex":` + strconv.FormatInt(e.index, 10) + `}`))
	for _, k := range keys {
		if ecdsa.VerifyASN1(k, sum[:], e.set) {
			return time.Unix(e.time, 0), nil
		}
	}
	return time.Time{}, errors.New("its log entry was not signed with the policy's Rekor key")
}

// logged is what an entry is about.
type logged struct {
	hash       []byte // SHA-256 of the payload
	signature  []byte
	verifier   []byte // DER of a key or certificate
	isEnvelope bool   // the payload is that of a DSSE envelope
}

// content reads the body of a verified entry.
func (e *logEntry) content() (*logged, error) {
	raw, err := base64.StdEncoding.DecodeString(e.body)
	if err != nil {
		return nil, err
	}
	top, err := document(raw)
	if err != nil {
		return nil, err
	}
	if err := exactly(top, "apiVersion", "kind", "spec"); err != nil {
		return nil, err
	}
	kind, err := top.text("kind")
	if err != nil {
		return nil, err
	}
	version, err := top.text("apiVersion")
	if err != nil {
		return nil, err
	}
	spec, err := parseObject("spec", top.values["spec"])
	if err != nil {
		return nil, err
	}
	switch kind + " " + version {
	case "hashedrekord 0.0.1":
		return hashedRecord(spec)
	case "dsse 0.0.1":
		return dsseRecord(spec)
	}
	return nil, invalid("kind", "%.40q in version %.40q cannot be read (hashedrekord and dsse 0.0.1 can)", kind, version)
}

// hashedRecord reads the entry of a signature of bytes.
func hashedRecord(spec object) (*logged, error) {
	if err := exactly(spec, "data", "signature"); err != nil {
		return nil, err
	}
	data, err := spec.object("data", "hash")
	if err != nil {
		return nil, err
	}
	l := &logged{}
	if l.hash, err = hashOf(data, "hash"); err != nil {
		return nil, err
	}
	s, err := spec.object("signature", "content", "publicKey")
	if err != nil {
		return nil, err
	}
	if l.signature, err = s.bytes("content"); err != nil {
		return nil, err
	}
	key, err := s.object("publicKey", "content")
	if err != nil {
		return nil, err
	}
	l.verifier, err = pemOf(key, "content")
	return l, err
}

// dsseRecord reads the entry of a DSSE envelope. The hash of the envelope is that of
// one of many ways to write it; its parts are compared instead.
func dsseRecord(spec object) (*logged, error) {
	if err := exactly(spec, "envelopeHash", "payloadHash", "signatures"); err != nil {
		return nil, err
	}
	l := &logged{isEnvelope: true}
	var err error
	if l.hash, err = hashOf(spec, "payloadHash"); err != nil {
		return nil, err
	}
	all, err := array(spec.path("signatures"), spec.values["signatures"])
	if err != nil {
		return nil, err
	}
	if len(all) != 1 {
		return nil, invalid(spec.path("signatures"), "there are %d of them, one is possible", len(all))
	}
	s, err := parseObject(spec.path("signatures")+"[0]", all[0])
	if err != nil {
		return nil, err
	}
	if err := exactly(s, "signature", "verifier"); err != nil {
		return nil, err
	}
	if l.signature, err = s.bytes("signature"); err != nil {
		return nil, err
	}
	l.verifier, err = pemOf(s, "verifier")
	return l, err
}

// hashOf reads a SHA-256.
func hashOf(parent object, key string) ([]byte, error) {
	o, err := parent.object(key, "algorithm", "value")
	if err != nil {
		return nil, err
	}
	algorithm, err := o.text("algorithm")
	if err != nil {
		return nil, err
	}
	if algorithm != "sha256" {
		return nil, invalid(o.path("algorithm"), "it is %.40q, not \"sha256\"", algorithm)
	}
	value, err := o.text("value")
	if err != nil {
		return nil, err
	}
	sum, err := hex.DecodeString(value)
	if err != nil {
		return nil, invalid(o.path("value"), "%v", err)
	}
	return sum, nil
}

// pemOf reads base64 of the one PEM block of a key or certificate.
func pemOf(o object, key string) ([]byte, error) {
	raw, err := o.bytes(key)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(raw)
	if block == nil || len(bytes.TrimSpace(rest)) != 0 {
		return nil, invalid(o.path(key), "it is not one PEM block")
	}
	return block.Bytes, nil
}

// binds says why a verified entry is not that of a signature made by one of the
// verifiers, each the DER of a key or certificate; else it returns which.
func (e *logEntry) binds(f *signature, verifiers [][]byte) (int, error) {
	l, err := e.content()
	if err != nil {
		return 0, fmt.Errorf("its log entry: %w", err)
	}
	sum := sha256.Sum256(f.content)
	switch {
	case l.isEnvelope != (f.message != nil):
		return 0, errors.New("its log entry is for a signature of another kind")
	case !bytes.Equal(l.signature, f.signature):
		return 0, errors.New("its log entry is for another signature")
	case !bytes.Equal(l.hash, sum[:]):
		return 0, errors.New("its log entry is for another payload")
	}
	for i, v := range verifiers {
		if bytes.Equal(l.verifier, v) {
			return i, nil
		}
	}
	return 0, errors.New("its log entry is for another key or certificate")
}

// bytes returns base64 that must be there.
func (o object) bytes(key string) ([]byte, error) {
	s, err := o.text(key)
	if err != nil {
		return nil, err
	}
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, invalid(o.path(key), "it is not base64: %v", err)
	}
	return raw, nil
}

// number returns an integer that must be there, written without point and exponent.
func (o object) number(key string) (int64, error) {
	if !o.has(key) {
		return 0, invalid(o.path(key), "the key is missing")
	}
	var n *int64
	if err := json.Unmarshal(o.values[key], &n); err != nil || n == nil {
		return 0, invalid(o.path(key), "it is not an integer")
	}
	return *n, nil
}

// object returns an object that must be there and have exactly these keys.
func (o object) object(key string, keys ...string) (object, error) {
	if !o.has(key) {
		return object{}, invalid(o.path(key), "the key is missing")
	}
	inner, err := parseObject(o.path(key), o.values[key])
	if err != nil {
		return inner, err
	}
	return inner, exactly(inner, keys...)
}
