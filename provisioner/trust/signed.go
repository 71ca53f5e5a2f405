package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// signed is the requirement of a sigstore signature. Its key is one of keys, or one
// that the authority certifies.
type signed struct {
	keys      []material
	authority *authority
	// log are the keys of the transparency log that must know the signature; without
	// any none must.
	log      []material
	identity identity
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
	log, err := atMostOne(o, "rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas")
	if err != nil {
		return nil, err
	}
	if s.log, err = materials(o, "rekorPublicKey"); err != nil {
		return nil, err
	}
	switch {
	case source == "fulcio" && log == "":
		return nil, invalid(o.path(source), "one of [rekorPublicKeyPath rekorPublicKeyPaths rekorPublicKeyData rekorPublicKeyDatas] is missing beside it: its certificates are valid for minutes, and the log knows when they were used")
	case source == "fulcio":
		s.authority, err = parseFulcio(o)
	case source == "pki" && log != "":
		return nil, invalid(o.path(log), "it is not possible beside pki")
	case source == "pki":
		s.authority, err = parsePKI(o)
	default:
		s.keys, err = materials(o, "key")
	}
	return s, err
}

// trusted is what a requirement trusts, read from its files.
type trusted struct {
	keys      []crypto.PublicKey
	certifier *certifier // nil when there are keys
	log       []*ecdsa.PublicKey
}

func (s *signed) trusted(f files) (*trusted, error) {
	t := &trusted{}
	var err error
	if t.keys, err = readKeys(f, s.keys); err != nil {
		return nil, err
	}
	logs, err := readKeys(f, s.log)
	if err != nil {
		return nil, err
	}
	for i, k := range logs {
		e, ok := k.(*ecdsa.PublicKey)
		if !ok {
			return nil, fmt.Errorf("the key of %s%s: it is not an ECDSA key, as Rekor's are: %w", s.log[i].at, s.log[i].where(), containerizer.ErrInvalid)
		}
		t.log = append(t.log, e)
	}
	if s.authority != nil {
		t.certifier, err = s.authority.read(f)
	}
	return t, err
}

func readKeys(f files, from []material) (out []crypto.PublicKey, _ error) {
	for _, m := range from {
		raw, err := f.read(m, maxKeyFile)
		if err != nil {
			return nil, err
		}
		k, err := parseKey(raw)
		if err != nil {
			return nil, fmt.Errorf("the key of %s%s: %w: %w", m.at, m.where(), err, containerizer.ErrInvalid)
		}
		out = append(out, k)
	}
	return out, nil
}

// check says why no signature is good enough; nil is that one is.
func (s *signed) check(j *judgement) error {
	t, err := s.trusted(j.files)
	if err != nil {
		return err
	}
	if j.origin.transport != docker {
		return j.refuse("it has no signatures: only images in registries do")
	}
	if len(j.digests) == 0 {
		return nil // to be asked again when it is known what the name stands for
	}
	var reasons []string
	total := 0
	for where := range places {
		found, err := j.signatures(where)
		if err != nil {
			return err
		}
		total += len(found)
		for _, f := range found {
			err := s.accept(j, t, &f)
			if err == nil {
				return nil
			}
			if text := err.Error(); !slices.Contains(reasons, text) {
				reasons = append(reasons, text)
			}
		}
	}
	if total == 0 {
		return j.refuse("it is not signed (there is no tag %q in its repository, and nothing there refers to it as a signature)", signatureTag(j.digests[0]))
	}
	const most = 3
	if more := len(reasons) - most; more > 0 {
		reasons = append(reasons[:most], fmt.Sprintf("and %d more", more))
	}
	return j.refuse("none of its %d signatures counts: %s", total, strings.Join(reasons, "; "))
}

// accept says why a signature does not count.
func (s *signed) accept(j *judgement, t *trusted, f *signature) error {
	if f.bad != nil {
		return f.bad
	}
	keys, err := t.keysFor(f)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if verify(k, f.signedBytes(), f.signature) {
			return s.means(j, f)
		}
	}
	if t.certifier != nil {
		return errors.New("it was not made with the key of its certificate")
	}
	return errors.New("it was not made with the policy's key")
}

// keysFor returns the keys that a signature may be made with.
func (t *trusted) keysFor(f *signature) ([]crypto.PublicKey, error) {
	if t.certifier == nil {
		return t.givenKeys(f)
	}
	leaf, between, err := f.certified()
	if err != nil {
		return nil, err
	}
	var at time.Time
	if len(t.log) > 0 || t.certifier.issuer != "" { // Fulcio's are never judged by today
		if at, _, err = t.logged(f, [][]byte{leaf.Raw}); err != nil {
			return nil, err
		}
	}
	key, err := t.certifier.certifies(leaf, between, at)
	return []crypto.PublicKey{key}, err
}

// givenKeys are the policy's, or the one of them that the log knows.
func (t *trusted) givenKeys(f *signature) ([]crypto.PublicKey, error) {
	if len(t.log) == 0 {
		return t.keys, nil
	}
	var verifiers [][]byte
	for _, k := range t.keys {
		der, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			return nil, err
		}
		verifiers = append(verifiers, der)
	}
	_, i, err := t.logged(f, verifiers)
	if err != nil {
		return nil, err
	}
	return t.keys[i : i+1], nil
}

// logged says when the log got a signature, and made with which of the verifiers.
func (t *trusted) logged(f *signature, verifiers [][]byte) (at time.Time, which int, err error) {
	switch {
	case f.badEntry != nil:
		return at, 0, fmt.Errorf("its log entry: %w", f.badEntry)
	case f.entry == nil:
		return at, 0, errNoEntry
	}
	if at, err = f.entry.verify(t.log); err != nil {
		return at, 0, err
	}
	which, err = f.entry.binds(f, verifiers)
	return at, which, err
}

// means says why what was verified is not about the image.
func (s *signed) means(j *judgement, f *signature) error {
	claims, err := f.claims()
	if err != nil {
		return fmt.Errorf("its payload: %w", err)
	}
	refused := errors.New("it is for no image")
	for _, c := range claims {
		err := s.fits(j, c)
		if err == nil {
			return nil
		}
		if c == claims[0] || slices.Contains(j.digests, c.digest) {
			refused = err
		}
	}
	return refused
}

// fits says why a claim is not about the image.
func (s *signed) fits(j *judgement, p claim) error {
	if !slices.Contains(j.digests, p.digest) {
		return fmt.Errorf("it is for another image, %s", p.digest)
	}
	wants := fmt.Sprintf("signedIdentity (%s) wants %s", s.identity.kind, s.identity.describe(j.origin.ref))
	if p.name.name == "" {
		return fmt.Errorf("it is for this image but names none, and %s; cosign 3 names it with --new-bundle-format=false", wants)
	}
	if s.identity.match(j.origin.ref, p.name) {
		return nil
	}
	hint := ""
	if p.name.nameOnly() {
		hint = "; cosign signs repositories, which the signedIdentity matchRepository accepts"
	}
	return fmt.Errorf("it is for the name %q, %s%s", p.name, wants, hint)
}
