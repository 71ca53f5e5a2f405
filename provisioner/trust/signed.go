package trust

import (
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// signed is the requirement of a sigstore signature.
type signed struct {
	keys     []material
	identity identity
	// unsupported is the key of the policy that asks for what cannot be checked.
	unsupported string
}

// keysOfSigned are all that containers-policy.json(5) has.
func keysOfSigned() []string {
	return []string{
		"type", "keyPath", "keyPaths", "keyData", "keyDatas", "fulcio", "pki",
		"rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas", "signedIdentity",
	}
}

func parseSigned(o object) (*signed, error) {
	if err := o.only(keysOfSigned()...); err != nil {
		return nil, err
	}
	s := &signed{}
	var err error
	if s.identity, err = identityOf(o); err != nil {
		return nil, err
	}
	source, err := oneOf(o, "keyPath", "keyPaths", "keyData", "keyDatas", "fulcio", "pki")
	if err != nil {
		return nil, err
	}
	for _, k := range o.keys {
		if source == "fulcio" || source == "pki" || strings.HasPrefix(k, "rekor") {
			s.unsupported = o.path(source)
			if strings.HasPrefix(k, "rekor") {
				s.unsupported = o.path(k)
			}
			return s, nil
		}
	}
	s.keys, err = materials(o, "key")
	return s, err
}

// check says why no signature is good enough; nil is that one is.
func (s *signed) check(j *judgement) error {
	if s.unsupported != "" {
		return fmt.Errorf("%s asks for what berth cannot verify: %w", s.unsupported, containerizer.ErrUnsupported)
	}
	var keys []crypto.PublicKey
	for _, m := range s.keys {
		raw, err := j.files.read(m)
		if err != nil {
			return err
		}
		k, err := parseKey(raw)
		if err != nil {
			return fmt.Errorf("the key of %s%s: %w: %w", m.at, m.where(), err, containerizer.ErrInvalid)
		}
		keys = append(keys, k)
	}
	if j.origin.transport != docker {
		return j.refuse("it has no signatures: only images in registries do")
	}
	if len(j.digests) == 0 {
		return nil // to be asked again when it is known what the name stands for
	}
	found, err := j.signatures()
	if err != nil {
		return err
	}
	var reasons []string
	for _, f := range found {
		err := s.accept(j, keys, &f)
		if err == nil {
			return nil
		}
		if text := err.Error(); len(reasons) == 0 || reasons[len(reasons)-1] != text {
			reasons = append(reasons, text)
		}
	}
	if len(found) == 0 {
		return j.refuse("it is not signed (there is no tag %q in its repository)", signatureTag(j.digests[0]))
	}
	const most = 3
	if more := len(reasons) - most; more > 0 {
		reasons = append(reasons[:most], fmt.Sprintf("and %d more", more))
	}
	return j.refuse("none of its %d signatures counts: %s", len(found), strings.Join(reasons, "; "))
}

// accept says why a signature does not count.
func (s *signed) accept(j *judgement, keys []crypto.PublicKey, f *signature) error {
	if f.bad != nil {
		return f.bad
	}
	verified := false
	for _, k := range keys {
		verified = verified || verify(k, f.payload, f.signature)
	}
	if !verified {
		return errors.New("it was not made with the policy's key")
	}
	return s.means(j, f.payload)
}

// means says why a verified payload is not about the image.
func (s *signed) means(j *judgement, raw []byte) error {
	p, err := parsePayload(raw)
	if err != nil {
		return fmt.Errorf("its payload: %w", err)
	}
	if !slices.Contains(j.digests, p.digest) {
		return fmt.Errorf("it is for another image, %s", p.digest)
	}
	if s.identity.match(j.origin.ref, p.name) {
		return nil
	}
	hint := ""
	if p.name.nameOnly() {
		hint = "; cosign signs repositories, which the signedIdentity matchRepository accepts"
	}
	return fmt.Errorf("it is for the name %q, %s (%s) wants %s%s", p.name, "signedIdentity", s.identity.kind, s.identity.describe(j.origin.ref), hint)
}
