package provisioner

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/manifest"
	"github.com/berth-dev/berth/provisioner/store"
)

// Save writes an archive of images. Both formats hold the very blobs that were
// pulled, so that all digests stay: an OCI image layout, and for Docker the index
// of "docker save" beside it, which that and every other tool reads.
func (p *Provisioner) Save(ctx context.Context, w io.Writer, f containerizer.ArchiveFormat, references []string) (err error) {
	if f != containerizer.ArchiveOCI && f != containerizer.ArchiveDocker {
		return fmt.Errorf("there is no archive format %q (%q and %q are possible): %w", f, containerizer.ArchiveOCI, containerizer.ArchiveDocker, containerizer.ErrInvalid)
	}
	if len(references) == 0 {
		return fmt.Errorf("no image to save was named: %w", containerizer.ErrInvalid)
	}
	kept, err := p.keepToSave(ctx, references)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kept.release()) }()
	s := &saver{p: p, ctx: ctx, tar: tar.NewWriter(w), written: map[digest.Digest]bool{}, index: v1.Index{MediaType: v1.MediaTypeImageIndex}}
	s.index.SchemaVersion = 2
	for n, i := range kept.images {
		if err := s.add(i, kept.names[n]); err != nil {
			return fmt.Errorf("save image %q: %w", references[n], err)
		}
	}
	return s.finish(f)
}

// toSave are the images of an archive, whose blobs stay until they are released.
type toSave struct {
	images []*store.Image
	names  []string // "" for an image that was named by digest
	lease  *store.Lease
	use    *store.Lock // nil once the lease keeps the blobs
}

func (t *toSave) release() error {
	if t.use != nil {
		t.use.Release()
	}
	if t.lease == nil {
		return nil
	}
	return t.lease.Release()
}

// keepToSave looks images up, and has a lease keep their blobs, so that nobody waits for
// whoever reads the archive. On a full disk, where the lease cannot be written, nothing
// can be removed meanwhile.
func (p *Provisioner) keepToSave(ctx context.Context, references []string) (t *toSave, err error) {
	t = &toSave{}
	if t.use, err = p.store.Use(ctx); err != nil {
		return nil, storeError(references[0], err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.release())
		}
	}()
	var blobs []string
	for _, ref := range references {
		i, name, err := p.local(ref)
		if err != nil {
			return t, err
		}
		t.images, t.names = append(t.images, i), append(t.names, name)
		for _, d := range i.BlobDigests() {
			blobs = append(blobs, string(d))
		}
	}
	if t.lease, err = p.store.NewLease(ctx); err == nil {
		err = t.lease.Hold(ctx, nil, blobs)
	}
	switch {
	case errors.Is(err, containerizer.ErrResourceExhausted):
		return t, nil
	case err != nil:
		return t, err
	}
	t.use.Release()
	t.use = nil
	return t, nil
}

// savedImage is an element of manifest.json.
type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

type saver struct {
	p       *Provisioner
	ctx     context.Context //nolint:containedctx // lives for one archive
	tar     *tar.Writer
	written map[digest.Digest]bool
	index   v1.Index
	docker  []savedImage
}

func (s *saver) add(i *store.Image, name string) error {
	d := i.Manifest
	platform := i.Platform
	d.Platform = &platform
	if name != "" {
		d.Annotations = map[string]string{v1.AnnotationRefName: name, "io.containerd.image.name": name}
	}
	s.index.Manifests = append(s.index.Manifests, d)
	entry := savedImage{Config: blobName(i.ConfigID.Digest), RepoTags: []string{}}
	if name != "" && !strings.Contains(name, "@") {
		entry.RepoTags = append(entry.RepoTags, name)
	}
	blobs := []v1.Descriptor{i.Manifest, i.ConfigID}
	for _, l := range i.Layers {
		blobs = append(blobs, l.Blob)
		entry.Layers = append(entry.Layers, blobName(l.Blob.Digest))
	}
	if at := slices.IndexFunc(s.docker, func(e savedImage) bool { return e.Config == entry.Config && slices.Equal(e.Layers, entry.Layers) }); at >= 0 {
		s.docker[at].RepoTags = append(s.docker[at].RepoTags, entry.RepoTags...)
	} else {
		s.docker = append(s.docker, entry)
	}
	for _, b := range blobs {
		if s.written[b.Digest] {
			continue
		}
		s.written[b.Digest] = true
		if err := s.blob(b); err != nil {
			return err
		}
	}
	return nil
}

func blobName(d digest.Digest) string {
	return "blobs/" + string(d.Algorithm()) + "/" + d.Encoded()
}

// blob copies a blob and verifies it on the way.
func (s *saver) blob(d v1.Descriptor) error {
	f, err := os.Open(s.p.store.BlobPath(d.Digest))
	if errors.Is(err, errNotExist) {
		return fmt.Errorf("blob %s is not kept; pull the image again: %w", d.Digest, containerizer.ErrFailedPrecondition)
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := s.header(blobName(d.Digest), info.Size()); err != nil {
		return err
	}
	h := manifest.NewHash(d.Digest)
	if _, err := io.Copy(s.tar, contextReader{s.ctx, io.TeeReader(f, h)}); err != nil {
		return fmt.Errorf("copy blob %s: %w", d.Digest, class(err))
	}
	if got := manifest.Sum(d.Digest, h); got != d.Digest {
		return fmt.Errorf("the kept blob %s has the digest %s (\"berth system check --repair\" removes it): %w", d.Digest, got, containerizer.ErrDataCorrupt)
	}
	return nil
}

func (s *saver) header(name string, size int64) error {
	return s.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, Format: tar.FormatPAX})
}

func (s *saver) document(name string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %q: %w", name, err)
	}
	if err := s.header(name, int64(len(raw))); err != nil {
		return err
	}
	_, err = s.tar.Write(raw)
	return err
}

func (s *saver) finish(f containerizer.ArchiveFormat) error {
	err := errors.Join(
		s.document(v1.ImageLayoutFile, v1.ImageLayout{Version: v1.ImageLayoutVersion}),
		s.document(v1.ImageIndexFile, s.index),
	)
	if f == containerizer.ArchiveDocker {
		err = errors.Join(err, s.document("manifest.json", s.docker))
	}
	if err = errors.Join(err, s.tar.Close()); err != nil {
		return fmt.Errorf("write the archive: %w", class(err))
	}
	return nil
}
