package trust

import (
	"encoding/json"
	"fmt"
)

// Types of requirements, as policies write them.
const (
	acceptAnything = "insecureAcceptAnything"
	rejectAll      = "reject"
	signedByGPG    = "signedBy"
	sigstoreSigned = "sigstoreSigned"
)

// Policy says which images may be used.
type Policy struct {
	fallback   []requirement
	transports map[string]map[string][]requirement // transport -> scope
}

// requirement is one condition that an image must meet.
type requirement struct {
	kind   string
	signed *signed // of sigstoreSigned
}

// Parse reads a policy strictly. Every error wraps ErrInvalid and names the key.
func Parse(raw []byte) (*Policy, error) {
	o, err := document(raw)
	if err != nil {
		return nil, err
	}
	if err := o.only("default", "transports"); err != nil {
		return nil, err
	}
	if !o.has("default") {
		return nil, invalid("default", "the key is missing; it says what applies where nothing else does")
	}
	p := &Policy{transports: map[string]map[string][]requirement{}}
	if p.fallback, err = requirements("default", o.values["default"]); err != nil {
		return nil, err
	}
	if !o.has("transports") {
		return p, nil
	}
	transports, err := parseObject("transports", o.values["transports"])
	if err != nil {
		return nil, err
	}
	for _, t := range transports.keys {
		if p.transports[t], err = scopes(t, transports.path(t), transports.values[t]); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func scopes(transport, at string, raw json.RawMessage) (map[string][]requirement, error) {
	o, err := parseObject(at, raw)
	if err != nil {
		return nil, err
	}
	out := map[string][]requirement{}
	for _, scope := range o.keys {
		if err := checkScope(transport, scope); err != nil {
			return nil, fmt.Errorf("%s: %w", o.path(scope), err)
		}
		if out[scope], err = requirements(o.path(scope), o.values[scope]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func requirements(at string, raw json.RawMessage) ([]requirement, error) {
	all, err := array(at, raw)
	if err != nil {
		return nil, err
	}
	var out []requirement
	for n, raw := range all {
		o, err := parseObject(fmt.Sprintf("%s[%d]", at, n), raw)
		if err != nil {
			return nil, err
		}
		r, err := parseRequirement(o)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

func parseRequirement(o object) (requirement, error) {
	kind, err := o.text("type")
	if err != nil {
		return requirement{}, err
	}
	r := requirement{kind: kind}
	switch kind {
	case acceptAnything, rejectAll:
		return r, o.only("type")
	case signedByGPG:
		return r, checkSignedBy(o)
	case sigstoreSigned:
		r.signed, err = parseSigned(o)
		return r, err
	}
	return r, invalid(o.path("type"), "there is no requirement %q (%s, %s, %s and %s are possible)", kind, acceptAnything, rejectAll, sigstoreSigned, signedByGPG)
}

// checkSignedBy checks the form of a requirement that cannot be met.
func checkSignedBy(o object) error {
	if err := o.only("type", "keyType", "keyPath", "keyPaths", "keyData", "signedIdentity"); err != nil {
		return err
	}
	kind, err := o.text("keyType")
	if err != nil {
		return err
	}
	if kind != "GPGKeys" {
		return invalid(o.path("keyType"), "there is no %q (GPGKeys is possible)", kind)
	}
	if _, err := oneOf(o, "keyPath", "keyPaths", "keyData"); err != nil {
		return err
	}
	_, err = identityOf(o)
	return err
}

// oneOf returns the one key of several that is there.
func oneOf(o object, keys ...string) (string, error) {
	found, err := atMostOne(o, keys...)
	if err == nil && found == "" {
		err = invalid(o.at, "one of %v is missing", keys)
	}
	return found, err
}

// atMostOne is oneOf where there may be none.
func atMostOne(o object, keys ...string) (string, error) {
	found := ""
	for _, k := range keys {
		if !o.has(k) {
			continue
		}
		if found != "" {
			return "", invalid(o.path(k), "it is there beside %s; one of them is possible", found)
		}
		found = k
	}
	return found, nil
}
