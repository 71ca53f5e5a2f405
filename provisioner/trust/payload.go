package trust

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// payloadType is critical.type of cosign's payloads.
const payloadType = "cosign container image signature"

// claim is what was signed: a digest, under a name, which may be none.
type claim struct {
	digest digest.Digest
	name   reference
}

// parsePayload reads a simple-signing document whose signature was verified. It
// is as strict as containers/image: what signs a document that can be read in two
// ways has not said what it means.
func parsePayload(raw []byte) (claim, error) {
	var p claim
	top, err := document(raw)
	if err != nil {
		return p, err
	}
	if err := exactly(top, "critical", "optional"); err != nil {
		return p, err
	}
	if err := checkOptional(top); err != nil {
		return p, err
	}
	critical, err := parseObject("critical", top.values["critical"])
	if err != nil {
		return p, err
	}
	if err := exactly(critical, "identity", "image", "type"); err != nil {
		return p, err
	}
	kind, err := critical.text("type")
	if err != nil {
		return p, err
	}
	if kind != payloadType {
		return p, invalid("critical.type", "it is %.100q, not %q", kind, payloadType)
	}
	d, err := only(critical, "image", "docker-manifest-digest")
	if err != nil {
		return p, err
	}
	p.digest = digest.Digest(d)
	if err := p.digest.Validate(); err != nil {
		return p, invalid("critical.image.docker-manifest-digest", "%v", err)
	}
	name, err := only(critical, "identity", "docker-reference")
	if err != nil {
		return p, err
	}
	if p.name, err = parseReference(name); err != nil {
		return p, fmt.Errorf("critical.identity.docker-reference: %w", err)
	}
	return p, nil
}

// exactly wants all keys, and no other.
func exactly(o object, keys ...string) error {
	if err := o.only(keys...); err != nil {
		return err
	}
	for _, k := range keys {
		if !o.has(k) {
			return invalid(o.path(k), "the key is missing")
		}
	}
	return nil
}

// only returns the text of an object's only key.
func only(parent object, key, inner string) (string, error) {
	o, err := parseObject(parent.path(key), parent.values[key])
	if err != nil {
		return "", err
	}
	if err := exactly(o, inner); err != nil {
		return "", err
	}
	return o.text(inner)
}

// checkOptional checks the form of what signers may add, which decides nothing.
func checkOptional(top object) error {
	raw := top.values["optional"]
	if string(raw) == "null" { // cosign without annotations
		return nil
	}
	o, err := parseObject("optional", raw)
	if err != nil {
		return err
	}
	if o.has("creator") {
		var s *string
		if err := json.Unmarshal(o.values["creator"], &s); err != nil || s == nil {
			return invalid("optional.creator", "it is not a string")
		}
	}
	if o.has("timestamp") {
		var n *json.Number
		if err := json.Unmarshal(o.values["timestamp"], &n); err != nil || n == nil {
			return invalid("optional.timestamp", "it is not a number")
		}
		if _, err := n.Int64(); err != nil {
			return invalid("optional.timestamp", "%v", errors.Unwrap(err))
		}
	}
	return nil
}
