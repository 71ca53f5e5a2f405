package trust

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

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
)

// Limits of what a registry may send.
const (
	maxTag         = 128 // bytes, in any registry
	maxSignatures  = 128
	maxPayload     = 128 << 10
	maxAnnotation  = 64 << 10
	maxAttachments = 4 << 20 // a manifest of signatures
)

// signature is one that was found, not verified.
type signature struct {
	payload   []byte
	signature []byte
	// certificate, chain and bundle are "" without.
	certificate, chain, bundle string
	// bad says why it cannot be one.
	bad error
}

// possible says whether it may be one.
func (s *signature) possible() bool { return s.bad == nil }

// signatureTag is where cosign puts the signatures of what has the digest d.
func signatureTag(d digest.Digest) string {
	return d.Algorithm().String() + "-" + d.Encoded() + ".sig"
}

// signaturesOf fetches those of what has the digest d; none is no error.
func signaturesOf(ctx context.Context, origin containerizer.TaggedOrigin, d digest.Digest) ([]signature, error) {
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
	layers, err := parseAttachments(desc, raw)
	if err != nil {
		return nil, fmt.Errorf("manifest of signatures %q: %w", signatureTag(d), err)
	}
	var out []signature
	for _, l := range layers {
		s, err := fetchSignature(ctx, origin, l)
		if err != nil {
			return nil, fmt.Errorf("signature %s: %w", l.Digest, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// parseAttachments returns the layers of a manifest that are signatures.
func parseAttachments(desc v1.Descriptor, raw []byte) ([]v1.Descriptor, error) {
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
	var out []v1.Descriptor
	for _, l := range m.Layers {
		if l.MediaType == payloadMedia {
			out = append(out, l)
		}
	}
	if len(out) > maxSignatures {
		return nil, invalid("", "it has %d signatures, at most %d are looked at", len(out), maxSignatures)
	}
	return out, nil
}

// fetchSignature fetches the payload. Only what says that the registry did not
// answer is an error: one bad signature does not spoil others.
func fetchSignature(ctx context.Context, origin containerizer.ImageOrigin, l v1.Descriptor) (s signature, _ error) {
	if s = annotated(l); !s.possible() {
		return s, nil
	}
	s.payload, s.bad = readBlob(ctx, origin, l)
	switch {
	case errors.Is(s.bad, containerizer.ErrUnavailable), s.bad != nil && ctx.Err() != nil:
		return s, s.bad
	case s.bad == nil && l.Digest.Algorithm().FromBytes(s.payload) != l.Digest:
		s.bad = invalid("", "its payload does not have the digest %s", l.Digest)
	}
	return s, nil
}

// annotated is a signature without its payload.
func annotated(l v1.Descriptor) signature {
	var s signature
	s.bad = s.annotate(l)
	return s
}

// annotate reads what stands beside a payload.
func (s *signature) annotate(l v1.Descriptor) (err error) {
	if err := l.Digest.Validate(); err != nil {
		return invalid("", "digest %.100q: %v", l.Digest, err)
	}
	if l.Size <= 0 || l.Size > maxPayload {
		return invalid("", "its payload has %d bytes, 1 to %d are possible", l.Size, maxPayload)
	}
	for key, value := range l.Annotations {
		if len(value) > maxAnnotation {
			return invalid("", "its annotation %.100q has more than %d bytes", key, maxAnnotation)
		}
	}
	text := l.Annotations[annotationSignature]
	if text == "" {
		return invalid("", "it has no annotation %s", annotationSignature)
	}
	if s.signature, err = base64.StdEncoding.DecodeString(text); err != nil {
		return invalid("", "annotation %s: %v", annotationSignature, err)
	}
	s.certificate, s.chain, s.bundle = l.Annotations[annotationCertificate], l.Annotations[annotationChain], l.Annotations[annotationBundle]
	return nil
}

func readBlob(ctx context.Context, origin containerizer.ImageOrigin, d v1.Descriptor) ([]byte, error) {
	d.Annotations, d.Data = nil, nil
	r, err := origin.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // was only read
	raw, err := io.ReadAll(io.LimitReader(r, maxPayload+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) != d.Size {
		return nil, invalid("", "its payload has not the %d bytes that the manifest says", d.Size)
	}
	return raw, nil
}
