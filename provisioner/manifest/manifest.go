package manifest

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
)

// Limits of documents.
const (
	MaxManifestBytes = 4 << 20
	MaxConfigBytes   = 8 << 20
	MaxLayers        = 499 // overlayfs takes 500 directories
	maxIndexEntries  = 1000
)

// Media types of Docker schema 2, and of what is refused.
const (
	DockerManifest      = "application/vnd.docker.distribution.manifest.v2+json"
	DockerManifestList  = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerConfig        = "application/vnd.docker.container.image.v1+json"
	DockerLayer         = "application/vnd.docker.image.rootfs.diff.tar"
	DockerLayerGzip     = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	dockerLayerZstd     = "application/vnd.docker.image.rootfs.diff.tar.zstd"
	dockerForeignLayer  = "application/vnd.docker.image.rootfs.foreign.diff.tar"
	dockerForeignGzip   = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	dockerSchema1       = "application/vnd.docker.distribution.manifest.v1+json"
	dockerSchema1Signed = "application/vnd.docker.distribution.manifest.v1+prettyjws"
	ociForeignPrefix    = "application/vnd.oci.image.layer.nondistributable.v1.tar"
)

// Document is a parsed index or manifest; one of the two is set.
type Document struct {
	Index    *v1.Index
	Manifest *v1.Manifest
}

// probe has the fields that tell the kinds apart.
type probe struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	Manifests     json.RawMessage `json:"manifests"`
	Layers        json.RawMessage `json:"layers"`
	Config        json.RawMessage `json:"config"`
	FSLayers      json.RawMessage `json:"fsLayers"`
}

// Parse verifies raw against d, and reads it. d.MediaType is what the sender
// called it; it may be empty.
func Parse(d v1.Descriptor, raw []byte) (*Document, error) {
	doc, err := parse(d, raw)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	return doc, nil
}

func parse(d v1.Descriptor, raw []byte) (*Document, error) {
	if len(raw) > MaxManifestBytes {
		return nil, invalid("it has more than %d bytes", MaxManifestBytes)
	}
	if err := Verify(d, raw); err != nil {
		return nil, err
	}
	var p probe
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, invalid("parse: %v", err)
	}
	kind, err := p.kind(d.MediaType)
	if err != nil {
		return nil, err
	}
	if kind == v1.MediaTypeImageIndex {
		return parseIndex(raw)
	}
	return parseManifest(raw)
}

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, containerizer.ErrInvalid)...)
}

func unsupported(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, containerizer.ErrUnsupported)...)
}

// kind decides between index and manifest, and refuses what could be both.
func (p *probe) kind(called string) (string, error) {
	if schema1(called) || schema1(p.MediaType) || p.SchemaVersion == 1 || p.FSLayers != nil {
		return "", unsupported("Docker schema 1 is not supported: push the image again with any current client")
	}
	if p.SchemaVersion != 2 {
		return "", invalid("schemaVersion is %d, not 2", p.SchemaVersion)
	}
	if p.MediaType != "" && generic(called) {
		called = p.MediaType
	}
	if p.MediaType != "" && p.MediaType != called {
		return "", invalid("it calls itself %q and was sent as %q", p.MediaType, called)
	}
	if p.Manifests != nil && (p.Layers != nil || p.Config != nil) {
		return "", invalid("it is both an index and a manifest")
	}
	switch {
	case called == v1.MediaTypeImageIndex || called == DockerManifestList:
		if p.Manifests == nil {
			return "", invalid("the index has no list of manifests")
		}
		return v1.MediaTypeImageIndex, nil
	case called == v1.MediaTypeImageManifest || called == DockerManifest:
		if p.Config == nil {
			return "", invalid("the manifest has no configuration")
		}
		return v1.MediaTypeImageManifest, nil
	case !generic(called):
		return "", unsupported("media type %q is not an image's", called)
	case p.Manifests != nil:
		return v1.MediaTypeImageIndex, nil
	case p.Config != nil && p.Layers != nil:
		return v1.MediaTypeImageManifest, nil
	}
	return "", invalid("it is neither an index nor a manifest")
}

func schema1(t string) bool { return t == dockerSchema1 || t == dockerSchema1Signed }

// generic says whether a media type says nothing: some registries send such.
func generic(t string) bool {
	switch t {
	case "", "application/json", "application/octet-stream", "text/plain", "binary/octet-stream":
		return true
	}
	return strings.HasPrefix(t, "text/plain;") || strings.HasPrefix(t, "application/json;")
}

func parseIndex(raw []byte) (*Document, error) {
	var x v1.Index
	if err := json.Unmarshal(raw, &x); err != nil {
		return nil, invalid("parse the index: %v", err)
	}
	if len(x.Manifests) > maxIndexEntries {
		return nil, invalid("the index has %d entries, at most %d are possible", len(x.Manifests), maxIndexEntries)
	}
	for _, d := range x.Manifests {
		if err := CheckDescriptor(d); err != nil {
			return nil, err
		}
	}
	return &Document{Index: &x}, nil
}

func parseManifest(raw []byte) (*Document, error) {
	var m v1.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, invalid("parse the manifest: %v", err)
	}
	if len(m.Layers) > MaxLayers {
		return nil, invalid("the image has %d layers, at most %d are possible", len(m.Layers), MaxLayers)
	}
	for _, d := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		if err := CheckDescriptor(d); err != nil {
			return nil, err
		}
	}
	return &Document{Manifest: &m}, nil
}

// CheckDescriptor checks digest and size.
func CheckDescriptor(d v1.Descriptor) error {
	if err := CheckDigest(d.Digest); err != nil {
		return err
	}
	if d.Size < 0 {
		return invalid("%s has the size %d", d.Digest, d.Size)
	}
	return nil
}

// CheckDigest accepts sha256 and sha512 in lower-case hexadecimal, and so comes
// before any path is made of a digest (CVE-2024-3727).
func CheckDigest(d digest.Digest) error {
	algorithm, hex, _ := strings.Cut(string(d), ":")
	length := 64
	switch algorithm {
	case "sha256":
	case "sha512":
		length = 128
	default:
		return invalid("digest %q: only sha256 and sha512 are supported", d)
	}
	if len(hex) != length || strings.Trim(hex, "0123456789abcdef") != "" {
		return invalid("digest %q does not have %d lower-case hexadecimal digits", d, length)
	}
	return nil
}

// NewHash returns the hash of d's algorithm. Precondition: CheckDigest accepts d.
func NewHash(d digest.Digest) hash.Hash {
	if d.Algorithm() == "sha512" {
		return sha512.New()
	}
	return sha256.New()
}

// Sum returns what was written to h as a digest of d's algorithm.
func Sum(d digest.Digest, h hash.Hash) digest.Digest {
	return digest.Digest(string(d.Algorithm()) + ":" + hex.EncodeToString(h.Sum(nil)))
}

// Verify compares raw with the digest and, if given, the size of d.
func Verify(d v1.Descriptor, raw []byte) error {
	if err := CheckDigest(d.Digest); err != nil {
		return err
	}
	if d.Size > 0 && d.Size != int64(len(raw)) {
		return fmt.Errorf("%s has %d bytes, %d were received: %w", d.Digest, d.Size, len(raw), containerizer.ErrDataCorrupt)
	}
	h := NewHash(d.Digest)
	_, _ = h.Write(raw) // never fails (hash.Hash)
	if got := Sum(d.Digest, h); got != d.Digest {
		return fmt.Errorf("the content of %s has the digest %s: %w", d.Digest, got, containerizer.ErrDataCorrupt)
	}
	return nil
}

// CheckRunnable refuses manifests that are not of an image to run: artifacts,
// and layers of kinds that cannot be unpacked.
func CheckRunnable(m *v1.Manifest) error {
	switch t := m.Config.MediaType; {
	case t == v1.MediaTypeImageConfig || t == DockerConfig || generic(t):
	default:
		kind := m.ArtifactType
		if kind == "" {
			kind = t
		}
		return unsupported("it is not an image to run but an artifact of type %q", kind)
	}
	if m.ArtifactType != "" && m.Config.MediaType == v1.MediaTypeEmptyJSON {
		return unsupported("it is not an image to run but an artifact of type %q", m.ArtifactType)
	}
	if len(m.Layers) == 0 {
		return unsupported("the image has no layers")
	}
	for _, l := range m.Layers {
		if err := checkLayerType(l); err != nil {
			return err
		}
	}
	return nil
}

func checkLayerType(l v1.Descriptor) error {
	t := l.MediaType
	switch t {
	case DockerLayer, DockerLayerGzip, dockerLayerZstd, dockerForeignLayer, dockerForeignGzip,
		v1.MediaTypeImageLayer, v1.MediaTypeImageLayerGzip, v1.MediaTypeImageLayerZstd,
		ociForeignPrefix, ociForeignPrefix + "+gzip", ociForeignPrefix + "+zstd":
		return nil
	}
	if strings.HasSuffix(t, "+encrypted") {
		return unsupported("layer %s is encrypted", l.Digest)
	}
	return unsupported("layer %s has the type %q, which cannot be unpacked", l.Digest, t)
}
