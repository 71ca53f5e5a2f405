package trust

import (
	"strings"
)

// identity says which name a signature must be for. The zero value is
// matchRepoDigestOrExact.
type identity struct {
	kind string
	// ref is the reference or repository of exactReference and exactRepository.
	ref reference
	// prefix and signed are those of remapIdentity.
	prefix, signed string
}

// Kinds of identities, as policies write them.
const (
	matchExact             = "matchExact"
	matchRepoDigestOrExact = "matchRepoDigestOrExact"
	matchRepository        = "matchRepository"
	exactReference         = "exactReference"
	exactRepository        = "exactRepository"
	remapIdentity          = "remapIdentity"
)

// identityOf reads the signedIdentity of a requirement.
func identityOf(requirement object) (identity, error) {
	i := identity{kind: matchRepoDigestOrExact}
	if !requirement.has("signedIdentity") {
		return i, nil
	}
	o, err := parseObject(requirement.path("signedIdentity"), requirement.values["signedIdentity"])
	if err != nil {
		return i, err
	}
	if i.kind, err = o.text("type"); err != nil {
		return i, err
	}
	switch i.kind {
	case matchExact, matchRepoDigestOrExact, matchRepository:
		return i, o.only("type")
	case exactReference:
		return i, i.exact(o, "dockerReference")
	case exactRepository:
		return i, i.exact(o, "dockerRepository")
	case remapIdentity:
		return i, i.remap(o)
	}
	return i, invalid(o.path("type"), "there is no identity %q", i.kind)
}

// exact reads a reference, with a tag or digest for exactReference and without for
// exactRepository.
func (i *identity) exact(o object, key string) error {
	if err := o.only("type", key); err != nil {
		return err
	}
	s, err := o.text(key)
	if err != nil {
		return err
	}
	if i.ref, err = parseReference(s); err != nil {
		return invalid(o.path(key), "%v", err)
	}
	switch {
	case i.kind == exactReference && i.ref.nameOnly():
		return invalid(o.path(key), "%q has neither tag nor digest", s)
	case i.kind == exactRepository && !i.ref.nameOnly():
		return invalid(o.path(key), "%q is not a repository: it has a tag or digest", s)
	}
	return nil
}

func (i *identity) remap(o object) error {
	if err := o.only("type", "prefix", "signedPrefix"); err != nil {
		return err
	}
	for _, p := range []struct {
		key string
		to  *string
	}{{"prefix", &i.prefix}, {"signedPrefix", &i.signed}} {
		s, err := o.text(p.key)
		if err != nil {
			return err
		}
		host, rest, deep := strings.Cut(s, "/")
		if strings.Trim(host, letters+".:-[]") != "" || deep && !validRepository(rest) {
			return invalid(o.path(p.key), "%q is not HOST[:PORT][/NAMESPACE], without tag or digest", s)
		}
		*p.to = s
	}
	return nil
}

// match says whether a signature for the name signed is one for the image.
func (i *identity) match(image, signed reference) bool {
	switch i.kind {
	case matchExact:
		return !image.nameOnly() && image == signed
	case matchRepository:
		return image.name != "" && image.name == signed.name
	case exactReference:
		return i.ref == signed
	case exactRepository:
		return i.ref.name == signed.name
	case remapIdentity:
		image.name = i.remapped(image.name)
	}
	// The digest of a name was compared before.
	switch {
	case image.name == "" || signed.nameOnly():
		return false
	case image.tag != "":
		return image == signed
	}
	return image.digest != "" && image.name == signed.name
}

func (i *identity) remapped(name string) string {
	rest, ok := strings.CutPrefix(name, i.prefix)
	if !ok || rest != "" && rest[0] != '/' {
		return name
	}
	return i.signed + rest
}

// describe says what name is wanted.
func (i *identity) describe(image reference) string {
	switch i.kind {
	case matchRepository:
		return "repository " + quote(image.name)
	case exactReference:
		return quote(i.ref.String())
	case exactRepository:
		return "repository " + quote(i.ref.name)
	case remapIdentity:
		image.name = i.remapped(image.name)
	}
	if image.tag == "" && i.kind != matchExact {
		return "repository " + quote(image.name) + " with a tag"
	}
	return quote(image.String())
}
