package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/reference"
)

// Media types of Docker schema 2.
const (
	dockerManifest  = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig    = "application/vnd.docker.container.image.v1+json"
	dockerLayer     = "application/vnd.docker.image.rootfs.diff.tar"
	dockerLayerGzip = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	dockerLayerZstd = "application/vnd.docker.image.rootfs.diff.tar.zstd"
)

const (
	dockerIndex = "manifest.json"
	maxImages   = 1000
	maxLayers   = 500
)

// dockerImage is an element of manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// docker is one image of an archive of "docker save". Such archives have no
// manifest: one is made, the same each time.
type docker struct {
	files    *tarFiles
	manifest v1.Descriptor
	raw      []byte
	members  map[digest.Digest]string
}

func readDockerIndex(t *tarFiles) ([]dockerImage, error) {
	if !t.has(dockerIndex) {
		return nil, fmt.Errorf("it is not an archive of \"docker save\" (it has no file %q): %w", dockerIndex, containerizer.ErrInvalid)
	}
	raw, err := readAll(t, dockerIndex)
	if err != nil {
		return nil, err
	}
	var images []dockerImage
	if err := json.Unmarshal(raw, &images); err != nil {
		return nil, fmt.Errorf("parse %q: %w: %w", dockerIndex, err, containerizer.ErrInvalid)
	}
	if len(images) == 0 || len(images) > maxImages {
		return nil, fmt.Errorf("%q lists %d images: %w", dockerIndex, len(images), containerizer.ErrInvalid)
	}
	return images, nil
}

// connectDocker makes the manifest of the image that r means.
func connectDocker(ctx context.Context, t *tarFiles, r reference.Reference) (*docker, error) {
	images, err := readDockerIndex(t)
	if err != nil {
		return nil, err
	}
	var found []dockerImage
	var have []string
	for _, img := range images {
		have = append(have, append(img.RepoTags, "@"+configDigest(img))...)
		switch {
		case r.Digest != "" && configDigest(img) != string(r.Digest):
		case r.Name != "" && !slices.ContainsFunc(img.RepoTags, func(tag string) bool { return tag == r.Name || sameName(tag, r.Name) }):
		default:
			found = append(found, img)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("there is no such image in it (there is: %s): %w", strings.Join(have, ", "), containerizer.ErrNotFound)
	case 1:
		return newDocker(ctx, t, found[0])
	}
	return nil, fmt.Errorf("there are several images in it, name one of them (%s): %w", strings.Join(have, ", "), containerizer.ErrInvalid)
}

// configDigest is the image ID that the name of a configuration file holds:
// "HEX.json", or "blobs/sha256/HEX".
func configDigest(img dockerImage) string {
	base := img.Config[strings.LastIndexByte(img.Config, '/')+1:]
	return "sha256:" + strings.TrimSuffix(base, ".json")
}

func newDocker(ctx context.Context, t *tarFiles, img dockerImage) (*docker, error) {
	if len(img.Layers) > maxLayers {
		return nil, fmt.Errorf("the image has %d layers, at most %d are possible: %w", len(img.Layers), maxLayers, containerizer.ErrInvalid)
	}
	d := &docker{files: t, members: map[digest.Digest]string{}}
	m := v1.Manifest{MediaType: dockerManifest}
	m.SchemaVersion = 2
	var err error
	if m.Config, err = d.describe(ctx, img.Config); err != nil {
		return nil, err
	}
	m.Config.MediaType = dockerConfig
	for _, name := range img.Layers {
		l, err := d.describe(ctx, name)
		if err != nil {
			return nil, err
		}
		m.Layers = append(m.Layers, l)
	}
	if d.raw, err = json.Marshal(m); err != nil {
		return nil, fmt.Errorf("encode a manifest: %w", err)
	}
	d.manifest = v1.Descriptor{MediaType: dockerManifest, Digest: digest.Digest(sum(sha256.Sum256(d.raw))), Size: int64(len(d.raw))}
	return d, nil
}

func sum(b [sha256.Size]byte) string { return "sha256:" + hex.EncodeToString(b[:]) }

// describe hashes a member.
func (d *docker) describe(ctx context.Context, name string) (v1.Descriptor, error) {
	r, size, err := d.files.open(name)
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer func() { _ = r.Close() }()
	var head [4]byte
	n, _ := io.ReadFull(r, head[:]) // shorter ones are not compressed
	h := sha256.New()
	h.Write(head[:n])
	if _, err := io.Copy(h, &ctxReader{ctx, r}); err != nil {
		return v1.Descriptor{}, fmt.Errorf("read %q: %w", name, err)
	}
	out := v1.Descriptor{MediaType: dockerLayer, Digest: digest.Digest(sum([sha256.Size]byte(h.Sum(nil)))), Size: size}
	switch {
	case bytes.HasPrefix(head[:], []byte{0x1f, 0x8b}):
		out.MediaType = dockerLayerGzip
	case bytes.Equal(head[:], []byte{0x28, 0xb5, 0x2f, 0xfd}):
		out.MediaType = dockerLayerZstd
	}
	d.members[out.Digest] = name
	return out, nil
}

// Resolve returns the manifest that was made.
func (d *docker) Resolve(context.Context) (v1.Descriptor, []byte, error) {
	return d.manifest, d.raw, nil
}

// Open returns the manifest or a member.
func (d *docker) Open(_ context.Context, want v1.Descriptor) (io.ReadCloser, error) {
	if want.Digest == d.manifest.Digest {
		return io.NopCloser(bytes.NewReader(d.raw)), nil
	}
	name, ok := d.members[want.Digest]
	if !ok {
		return nil, fmt.Errorf("the archive has no blob %s: %w", want.Digest, containerizer.ErrNotFound)
	}
	r, _, err := d.files.open(name)
	return r, err
}

// Close closes the archive.
func (d *docker) Close() error { return d.files.Close() }

// dockerContents lists the images for loading.
func dockerContents(images []dockerImage, r reference.Reference) []containerizer.ArchivedImage {
	var out []containerizer.ArchivedImage
	for _, img := range images {
		one := r
		switch id := digest.Digest(configDigest(img)); {
		case id.Validate() == nil:
			one.Digest = id
		case len(img.RepoTags) > 0:
			one.Name = img.RepoTags[0]
		}
		a := containerizer.ArchivedImage{Reference: one.String()}
		for _, tag := range img.RepoTags {
			if n, err := reference.Parse(tag); err == nil && !n.IsPath() {
				a.Names = append(a.Names, n.String())
			}
		}
		out = append(out, a)
	}
	return out
}
