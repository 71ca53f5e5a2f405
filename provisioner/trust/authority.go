package trust

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

const (
	// maxAuthorities is how large a file of certificates may be: that of a system has
	// some 250 KiB.
	maxAuthorities = 1 << 20
	// maxChain is how many certificates a signature may bring along.
	maxChain = 8
)

// authority is who certifies the keys that signatures are made with, and for whom.
type authority struct {
	roots, intermediates []material
	// issuer is who knows the signer (an OIDC issuer), as Fulcio writes it down; ""
	// is an authority of another kind.
	issuer string
	// email and host are the signer's; one of them may be "".
	email, host string
}

// parseFulcio reads the certificates and signers of a requirement's key "fulcio".
func parseFulcio(parent object) (*authority, error) {
	o, err := parseObject(parent.path("fulcio"), parent.values["fulcio"])
	if err != nil {
		return nil, err
	}
	if err := o.only("caPath", "caData", "oidcIssuer", "subjectEmail"); err != nil {
		return nil, err
	}
	if _, err := oneOf(o, "caPath", "caData"); err != nil {
		return nil, err
	}
	a := &authority{}
	if a.roots, err = materials(o, "ca"); err != nil {
		return nil, err
	}
	if a.issuer, err = o.text("oidcIssuer"); err != nil {
		return nil, err
	}
	a.email, err = o.text("subjectEmail")
	return a, err
}

// parsePKI is parseFulcio for "pki".
func parsePKI(parent object) (*authority, error) {
	o, err := parseObject(parent.path("pki"), parent.values["pki"])
	if err != nil {
		return nil, err
	}
	if err := o.only("caRootsPath", "caRootsData", "caIntermediatesPath", "caIntermediatesData", "subjectEmail", "subjectHostname"); err != nil {
		return nil, err
	}
	if _, err := oneOf(o, "caRootsPath", "caRootsData"); err != nil {
		return nil, err
	}
	if _, err := atMostOne(o, "caIntermediatesPath", "caIntermediatesData"); err != nil {
		return nil, err
	}
	a := &authority{}
	if a.roots, err = materials(o, "caRoots"); err != nil {
		return nil, err
	}
	if a.intermediates, err = materials(o, "caIntermediates"); err != nil {
		return nil, err
	}
	if !o.has("subjectEmail") && !o.has("subjectHostname") {
		return nil, invalid(o.at, "one of [subjectEmail subjectHostname] is missing")
	}
	for _, k := range []struct {
		key string
		to  *string
	}{{"subjectEmail", &a.email}, {"subjectHostname", &a.host}} {
		if o.has(k.key) {
			if *k.to, err = o.text(k.key); err != nil {
				return nil, err
			}
		}
	}
	return a, nil
}

// certifier is an authority whose certificates were read.
type certifier struct {
	*authority

	pool, between *x509.CertPool
}

// read reads an authority's certificates.
func (a *authority) read(f files) (*certifier, error) {
	c := &certifier{authority: a, pool: x509.NewCertPool(), between: x509.NewCertPool()}
	for _, part := range []struct {
		from []material
		to   *x509.CertPool
	}{{a.roots, c.pool}, {a.intermediates, c.between}} {
		for _, m := range part.from {
			raw, err := f.read(m, maxAuthorities)
			if err != nil {
				return nil, err
			}
			all, err := certificates(raw)
			if err == nil && len(all) == 0 {
				err = errors.New("it holds no certificate")
			}
			if err != nil {
				return nil, fmt.Errorf("the certificates of %s%s: %w: %w", m.at, m.where(), err, containerizer.ErrInvalid)
			}
			for _, cert := range all {
				part.to.AddCert(cert)
			}
		}
	}
	return c, nil
}

// certificates reads certificates in PEM form, and nothing else.
func certificates(raw []byte) (out []*x509.Certificate, _ error) {
	for {
		var block *pem.Block
		if block, raw = pem.Decode(raw); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a PEM block of type %.40q, not \"CERTIFICATE\"", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > maxRSABits { // would keep us busy
			return nil, fmt.Errorf("it holds a certificate with an RSA key of %d bits, at most %d are possible", k.N.BitLen(), maxRSABits)
		}
		out = append(out, c)
	}
	if len(bytes.TrimSpace(raw)) != 0 {
		return nil, errors.New("there is something else in it than certificates in PEM form")
	}
	return out, nil
}

// certified returns the certificate of a signature's key, and those between it and
// an authority.
func (s *signature) certified() (leaf *x509.Certificate, between []*x509.Certificate, err error) {
	if s.certificate == "" {
		return nil, nil, errors.New("it has no certificate (cosign's annotation " + annotationCertificate + "), which the policy asks for")
	}
	all, err := certificates([]byte(s.certificate))
	if err != nil {
		return nil, nil, fmt.Errorf("its certificate: %w", err)
	}
	if len(all) != 1 {
		return nil, nil, fmt.Errorf("it has %d certificates where one must be", len(all))
	}
	between, err = certificates([]byte(s.chain))
	if err != nil {
		return nil, nil, fmt.Errorf("its chain of certificates: %w", err)
	}
	if len(between) > maxChain {
		return nil, nil, fmt.Errorf("its chain has %d certificates, at most %d are looked at", len(between), maxChain)
	}
	if len(between) > 0 { // the last one is the root, which only the policy names
		between = between[:len(between)-1]
	}
	return all[0], between, nil
}

// certifies returns the key of a certificate if the authority gave it, for the
// signer that the policy names, and it was valid at a time. The zero time is now.
func (c *certifier) certifies(leaf *x509.Certificate, between []*x509.Certificate, at time.Time) (crypto.PublicKey, error) {
	pool := c.between.Clone()
	for _, b := range between {
		pool.AddCert(b)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: c.pool, Intermediates: pool, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	})
	if err != nil {
		when := "now"
		if !at.IsZero() {
			when = "when it was logged, " + at.UTC().Format(time.RFC3339)
		}
		return nil, fmt.Errorf("its certificate is not one of the policy's authority for signing, valid %s: %w", when, err)
	}
	if c.issuer != "" {
		issuer, err := issuerOf(leaf)
		if err != nil {
			return nil, fmt.Errorf("its certificate: %w", err)
		}
		if issuer != c.issuer {
			return nil, fmt.Errorf("its certificate is for who is known to %.200q; the policy wants %q", issuer, c.issuer)
		}
	}
	if c.email != "" && !slices.Contains(leaf.EmailAddresses, c.email) {
		return nil, fmt.Errorf("its certificate is for %s; the policy wants %q", named(leaf), c.email)
	}
	if c.host != "" && leaf.VerifyHostname(c.host) != nil {
		return nil, fmt.Errorf("its certificate is for %s; the policy wants the host %q", named(leaf), c.host)
	}
	if err := checkKey(leaf.PublicKey); err != nil {
		return nil, fmt.Errorf("the key of its certificate: %w", err)
	}
	return leaf.PublicKey, nil
}

// named is whom a certificate is for, in a message.
func named(c *x509.Certificate) string {
	all := slices.Concat(c.EmailAddresses, c.DNSNames)
	for _, u := range c.URIs {
		all = append(all, u.String())
	}
	if len(all) == 0 {
		return "nobody that it names"
	}
	return fmt.Sprintf("%.200q", strings.Join(all, ", "))
}

// issuerOf is who knows the signer, as Fulcio writes it into certificates: as bytes
// at first, later as a string (https://github.com/sigstore/fulcio, docs/oid-info.md).
func issuerOf(c *x509.Certificate) (string, error) {
	var first, second string
	var isFirst, isSecond bool
	for _, e := range c.Extensions { // none is there twice: the parser refuses that
		switch {
		case e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}):
			first, isFirst = string(e.Value), true
		case e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}):
			rest, err := asn1.Unmarshal(e.Value, &second)
			if err != nil || len(rest) != 0 {
				return "", errors.New("the extension with the issuer of its signer's identity is malformed")
			}
			isSecond = true
		}
	}
	switch {
	case isFirst && isSecond && first != second:
		return "", fmt.Errorf("it names two issuers of its signer's identity, %.200q and %.200q", first, second)
	case isFirst:
		return first, nil
	case isSecond:
		return second, nil
	}
	return "", errors.New("it does not say who issued its signer's identity; Fulcio's do")
}
