package trust

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
)

// What cosign writes.
const (
	payloadMedia          = "application/vnd.dev.cosign.simplesigning.v1+json"
	annotationSignature   = "dev.cosignproject.cosign/signature"
	annotationCertificate = "dev.sigstore.cosign/certificate"
	annotationChain       = "dev.sigstore.cosign/chain"
	annotationBundle      = "dev.sigstore.cosign/bundle"
	annotationPredicate   = "dev.sigstore.bundle.predicateType"
)

// artifactSignatures is the type of cosign's signatures as artifacts that refer to
// their image.
const artifactSignatures = "application/vnd.dev.cosign.artifact.sig.v1+json"

// Limits of what a registry may send.
const (
	maxTag         = 128 // bytes, in any registry
	maxSignatures  = 128
	maxReferrers   = 64
	maxPayload     = 64 << 10
	maxAnnotation  = 64 << 10
	maxAttachments = 4 << 20 // a manifest of signatures
)

// place is where signatures may be; they are looked at in this order.
type place int

const (
	taggedPlace place = iota
	referringPlace
	places
)

// signature is one that was found, not verified.
type signature struct {
	// content is what it says, of a media type.
	content     []byte
	contentType string
	// message is what is signed, nil for the content as it is.
	message   []byte
	signature []byte
	// certificate and chain are PEM, "" without.
	certificate, chain string
	// entry is of a transparency log, nil without; badEntry says what is wrong with it,
	// which matters to who wants one.
	entry    *logEntry
	badEntry error
	// bad says why it cannot be one.
	bad error
}

// possible says whether it may be one.
func (s *signature) possible() bool { return s.bad == nil }

func (s *signature) signedBytes() []byte {
	if s.message != nil {
		return s.message
	}
	return s.content
}

// claims reads the content, which was verified.
func (s *signature) claims() ([]claim, error) {
	switch s.contentType {
	case payloadMedia:
		c, err := parsePayload(s.content)
		return []claim{c}, err
	case inTotoMedia:
		return parseStatement(s.content)
	}
	return nil, invalid("", "it is of the type %.100q; %s and %s can be read", s.contentType, payloadMedia, inTotoMedia)
}

// signatureTag is where cosign puts the signatures of what has the digest d.
func signatureTag(d digest.Digest) string {
	return d.Algorithm().String() + "-" + d.Encoded() + ".sig"
}

// signaturesOf fetches those of what has the digest d; none is no error.
func signaturesOf(ctx context.Context, origin containerizer.TaggedOrigin, where place, d digest.Digest) ([]signature, error) {
	if where == referringPlace {
		return referringTo(ctx, origin, d)
	}
	if len(signatureTag(d)) > maxTag { // sha512
		return nil, nil
	}
	desc, raw, err := origin.ResolveTag(ctx, signatureTag(d))
	if errors.Is(err, containerizer.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := parseAttachments(desc, raw)
	if err != nil {
		return nil, fmt.Errorf("manifest of signatures %q: %w", signatureTag(d), err)
	}
	return fetchSignatures(ctx, origin, m)
}

// referringTo fetches the signatures in manifests that refer to what has the digest
// d, as OCI 1.1 has it.
func referringTo(ctx context.Context, origin containerizer.TaggedOrigin, d digest.Digest) (out []signature, _ error) {
	r, ok := origin.(containerizer.ReferredOrigin)
	if !ok {
		return nil, nil
	}
	all, err := r.Referrers(ctx, d, artifactSignatures, bundleMedia)
	if err != nil {
		return nil, err
	}
	// Bundles may be about anything, such as the image's parts list.
	all = slices.DeleteFunc(all, func(d v1.Descriptor) bool {
		about, ok := d.Annotations[annotationPredicate]
		return ok && about != signPredicate
	})
	if len(all) > maxReferrers {
		return nil, invalid("", "%d manifests with signatures refer to %s, at most %d are looked at", len(all), d, maxReferrers)
	}
	for _, desc := range all {
		s, err := fetchReferrer(ctx, origin, d, desc)
		if err != nil {
			return nil, fmt.Errorf("manifest of signatures %s: %w", desc.Digest, err)
		}
		if out = append(out, s...); len(out) > maxSignatures {
			return nil, invalid("", "%s has more than %d signatures", d, maxSignatures)
		}
	}
	return out, nil
}

// fetchReferrer fetches what one manifest holds. As of signatures, only what says that
// the registry did not answer is an error.
func fetchReferrer(ctx context.Context, origin containerizer.TaggedOrigin, d digest.Digest, desc v1.Descriptor) ([]signature, error) {
	m, err := readReferrer(ctx, origin, d, desc)
	switch {
	case errors.Is(err, containerizer.ErrUnavailable), err != nil && ctx.Err() != nil:
		return nil, err
	case err != nil:
		return []signature{{bad: fmt.Errorf("manifest of signatures %s: %w", desc.Digest, err)}}, nil
	}
	return fetchSignatures(ctx, origin, m)
}

func readReferrer(ctx context.Context, origin containerizer.TaggedOrigin, d digest.Digest, desc v1.Descriptor) (*v1.Manifest, error) {
	raw, err := readBlob(ctx, origin, desc, maxAttachments)
	if err != nil {
		return nil, err
	}
	m, err := parseAttachments(desc, raw)
	if err != nil {
		return nil, err
	}
	if m.Subject == nil || m.Subject.Digest != d {
		return nil, invalid("", "it does not refer to %s", d)
	}
	return m, nil
}

// fetchSignatures fetches the layers of a manifest that are signatures.
func fetchSignatures(ctx context.Context, origin containerizer.ImageOrigin, m *v1.Manifest) (out []signature, _ error) {
	for _, l := range m.Layers {
		s, err := fetchSignature(ctx, origin, l)
		if err != nil {
			return nil, fmt.Errorf("signature %s: %w", l.Digest, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// parseAttachments reads a manifest, of which only layers that are signatures are
// left.
func parseAttachments(desc v1.Descriptor, raw []byte) (*v1.Manifest, error) {
	if len(raw) > maxAttachments {
		return nil, invalid("", "it has more than %d bytes", maxAttachments)
	}
	if desc.MediaType == v1.MediaTypeImageIndex {
		return nil, invalid("", "it is an index")
	}
	var m v1.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, invalid("", "%v", err)
	}
	m.Layers = slices.DeleteFunc(m.Layers, func(l v1.Descriptor) bool { return l.MediaType != payloadMedia && l.MediaType != bundleMedia })
	if len(m.Layers) > maxSignatures {
		return nil, invalid("", "it has %d signatures, at most %d are looked at", len(m.Layers), maxSignatures)
	}
	return &m, nil
}

// fetchSignature fetches the payload. Only what says that the registry did not
// answer is an error: one bad signature does not spoil others.
func fetchSignature(ctx context.Context, origin containerizer.ImageOrigin, l v1.Descriptor) (s signature, _ error) {
	if s = annotated(l); !s.possible() {
		return s, nil
	}
	var raw []byte
	raw, s.bad = readBlob(ctx, origin, l, maxPayload)
	switch {
	case errors.Is(s.bad, containerizer.ErrUnavailable), s.bad != nil && ctx.Err() != nil:
		return s, s.bad
	case s.possible() && l.MediaType == bundleMedia:
		return bundled(raw), nil
	}
	s.content = raw
	return s, nil
}

// annotated is a signature without its payload.
func annotated(l v1.Descriptor) (s signature) {
	if l.Size <= 0 || l.Size > maxPayload {
		s.bad = invalid("", "its payload has %d bytes, 1 to %d are possible", l.Size, maxPayload)
	} else if err := l.Digest.Validate(); err != nil {
		s.bad = invalid("", "digest %.100q: %v", l.Digest, err)
	} else if l.MediaType != bundleMedia {
		s.bad = s.annotate(l.Annotations)
	}
	return s
}

// annotate reads what stands beside a payload.
func (s *signature) annotate(annotations map[string]string) (err error) {
	for key, value := range annotations {
		if len(value) > maxAnnotation {
			return invalid("", "its annotation %.100q has more than %d bytes", key, maxAnnotation)
		}
	}
	text := annotations[annotationSignature]
	if text == "" {
		return invalid("", "it has no annotation %s", annotationSignature)
	}
	if s.signature, err = base64.StdEncoding.DecodeString(text); err != nil {
		return invalid("", "annotation %s: %v", annotationSignature, err)
	}
	s.contentType = payloadMedia
	s.certificate, s.chain = annotations[annotationCertificate], annotations[annotationChain]
	if entry := annotations[annotationBundle]; entry != "" {
		s.entry, s.badEntry = parseLogEntry([]byte(entry))
	}
	return nil
}

// readBlob fetches a blob or manifest of at most limit bytes, and verifies it.
func readBlob(ctx context.Context, origin containerizer.ImageOrigin, d v1.Descriptor, limit int64) ([]byte, error) {
	if err := d.Digest.Validate(); err != nil {
		return nil, invalid("", "digest %.100q: %v", d.Digest, err)
	}
	if d.Size <= 0 || d.Size > limit {
		return nil, invalid("", "it has %d bytes, 1 to %d are possible", d.Size, limit)
	}
	d.Annotations, d.Data = nil, nil
	r, err := origin.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // was only read
	raw, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) != d.Size {
		return nil, invalid("", "its payload has not the %d bytes that the manifest says", d.Size)
	}
	if d.Digest.Algorithm().FromBytes(raw) != d.Digest {
		return nil, invalid("", "its payload does not have the digest %s", d.Digest)
	}
	return raw, nil
}
