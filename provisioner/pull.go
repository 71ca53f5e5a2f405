package provisioner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/provisioner/manifest"
	"github.com/berth-dev/berth/provisioner/store"
)

var errNotExist = fs.ErrNotExist

// maxIndexDepth bounds indexes within indexes.
const maxIndexDepth = 3

// resolved is an image as its documents describe it, before its layers.
type resolved struct {
	target    v1.Descriptor // what the name stands for
	index     digest.Digest
	documents map[digest.Digest][]byte
	desc      v1.Descriptor
	manifest  *v1.Manifest
	config    *v1.Image
}

// loaded says what an image of an archive is called, which was copied to stage.
type loaded struct {
	names  []string // those that it is to have
	origin string   // by the archive's own path
}

// pull makes the image called name available, under that name if l is nil.
func (p *Provisioner) pull(ctx context.Context, source containerizer.ImageSource, name string, l *loaded, progress *progress) (_ *store.Image, err error) {
	want, err := manifest.ParsePlatform(source.Platform)
	if err != nil {
		return nil, err
	}
	if err := p.store.Init(); err != nil {
		return nil, err
	}
	defer func() { p.giveBack(ctx, err) }()
	names, policyName := []string{name}, name
	if l != nil {
		names, policyName = l.names, l.origin
	}
	if err := p.mayPull(ctx, policyName); err != nil {
		return nil, err
	}
	if i := p.pinned(names, name, want); i != nil {
		progress.existing(i)
		return i, nil
	}
	origin, err := p.fetcher.Connect(ctx, name, source.Auth)
	if err != nil {
		return nil, err
	}
	defer func() { _ = origin.Close() }() // was only read
	target, raw, err := origin.Resolve(ctx)
	if err != nil {
		return nil, err
	}
	if i := p.unchanged(names, target, want); i != nil {
		progress.existing(i)
		return i, nil
	}
	r, err := p.resolve(ctx, origin, target, raw, want)
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", name, err)
	}
	from, err := p.judge(ctx, origin, policyName, r)
	if err != nil {
		return nil, err
	}
	i, err := p.take(ctx, origin, r, from, names, want, progress)
	if err != nil {
		return nil, fmt.Errorf("pull image %q: %w", name, err)
	}
	p.log.Info("image pulled", log.String("image", name), log.String("digest", string(i.Manifest.Digest)))
	return i, nil
}

// pinned returns the image if name is one by digest, which stands for the same
// bytes for ever, and all of it is here: nobody needs to be asked. names are those
// that the image is to have.
func (p *Provisioner) pinned(names []string, name string, want v1.Platform) *store.Image {
	_, d, found := strings.Cut(name, "@")
	if !found {
		return nil
	}
	return p.unchanged(names, v1.Descriptor{Digest: digest.Digest(d)}, want)
}

// unchanged returns the image if all names stand for target already.
func (p *Provisioner) unchanged(names []string, target v1.Descriptor, want v1.Platform) *store.Image {
	var image *store.Image
	for _, name := range names {
		ref, err := p.store.Ref(name)
		if err != nil || ref.Target.Digest != target.Digest {
			return nil
		}
		m, err := choose(ref, want)
		if err != nil {
			return nil
		}
		if image, err = p.store.Image(m); err != nil {
			return nil
		}
	}
	return image
}

// resolve goes down from an index to the manifest of the platform, and reads the
// configuration.
func (p *Provisioner) resolve(ctx context.Context, origin containerizer.ImageOrigin, target v1.Descriptor, raw []byte, want v1.Platform) (*resolved, error) {
	r := &resolved{target: store.Describe(target), documents: map[digest.Digest][]byte{}}
	d := target
	for depth := 0; ; depth++ {
		doc, err := manifest.Parse(d, raw)
		if err != nil {
			return nil, err
		}
		r.documents[d.Digest] = raw
		if doc.Manifest != nil {
			r.desc, r.manifest = d, doc.Manifest
			break
		}
		if depth >= maxIndexDepth {
			return nil, fmt.Errorf("more than %d indexes within each other: %w", maxIndexDepth, containerizer.ErrInvalid)
		}
		r.index = d.Digest
		if d, err = manifest.Choose(doc.Index, want); err != nil {
			return nil, err
		}
		if raw, err = document(ctx, origin, d, manifest.MaxManifestBytes); err != nil {
			return nil, err
		}
	}
	if err := manifest.CheckRunnable(r.manifest); err != nil {
		return nil, err
	}
	raw, err := document(ctx, origin, r.manifest.Config, manifest.MaxConfigBytes)
	if err != nil {
		return nil, err
	}
	if r.config, err = manifest.Config(r.manifest, raw); err != nil {
		return nil, err
	}
	r.documents[r.manifest.Config.Digest] = raw
	return r, manifest.CheckPlatform(r.config, want)
}

// document fetches a small document whole. It is verified by who parses it.
func document(ctx context.Context, origin containerizer.ImageOrigin, d v1.Descriptor, limit int64) ([]byte, error) {
	if d.Size > limit {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are possible: %w", d.Digest, d.Size, limit, containerizer.ErrInvalid)
	}
	if d.MediaType == "" && limit == manifest.MaxManifestBytes {
		d.MediaType = v1.MediaTypeImageManifest // where to ask for it
	}
	b, err := origin.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = b.Close() }()
	raw, err := io.ReadAll(io.LimitReader(b, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes: %w", d.Digest, limit, containerizer.ErrInvalid)
	}
	return raw, nil
}

// take fetches the layers and writes the records, under a lease. from is nil for what
// was made here.
func (p *Provisioner) take(ctx context.Context, origin containerizer.ImageOrigin, r *resolved, from *store.Origin, names []string, want v1.Platform, progress *progress) (_ *store.Image, err error) {
	lease, err := p.store.NewLease(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lease.Release()) }()

	i := &store.Image{
		Manifest: store.Describe(r.desc), Index: r.index, ConfigID: store.Describe(r.manifest.Config),
		Platform: r.config.Platform, PulledAt: time.Now().UTC().Truncate(time.Second), Config: r.config.Config, Names: names,
	}
	if r.config.Created != nil {
		i.Created = *r.config.Created
	}
	for n, l := range r.manifest.Layers {
		i.Layers = append(i.Layers, store.ImageLayer{DiffID: r.config.RootFS.DiffIDs[n], Blob: store.Describe(l)})
	}
	if err := p.leaseImage(ctx, lease, i); err != nil {
		return nil, err
	}
	p.makeRoom(ctx, i)
	if i.Backend, err = p.probe(lease); err != nil {
		return nil, err
	}
	if err := p.layers(ctx, lease, origin, i, progress); err != nil {
		return nil, err
	}
	if err := p.assemble(ctx, lease, i); err != nil {
		return nil, err
	}
	for d, raw := range r.documents {
		if err := p.store.WriteBlob(d, raw); err != nil {
			return nil, err
		}
	}
	return i, p.record(ctx, i, r.target, from, names, want)
}

// record makes an image visible. Whoever removes images sees all of its records, or
// none: the lease keeps what the image consists of, but an image without its name is
// one that may go.
func (p *Provisioner) record(ctx context.Context, i *store.Image, target v1.Descriptor, from *store.Origin, names []string, want v1.Platform) error {
	use, err := p.store.Use(ctx)
	if err != nil {
		return err
	}
	defer use.Release()
	if err := p.store.RecordImage(ctx, i); err != nil {
		return err
	}
	if from != nil {
		if err := p.store.PutOrigin(from); err != nil {
			return err
		}
	}
	return p.name(ctx, names, target, want, i)
}

// leaseImage keeps everything the image will consist of from being collected.
func (p *Provisioner) leaseImage(ctx context.Context, lease *store.Lease, i *store.Image) error {
	var layers, blobs []string
	for _, l := range i.Layers {
		layers = append(layers, store.LayerName(l.DiffID))
	}
	layers = append(layers, fixNames(i)...)
	for _, d := range i.BlobDigests() {
		blobs = append(blobs, string(d))
	}
	return lease.Hold(ctx, layers, blobs)
}

// name makes names stand for target, and for the image on the platform asked for.
func (p *Provisioner) name(ctx context.Context, names []string, target v1.Descriptor, want v1.Platform, i *store.Image) error {
	key := manifest.String(want)
	for _, name := range names {
		err := p.store.UpdateRef(ctx, name, func(ref *store.Ref) *store.Ref {
			if ref == nil || ref.Target.Digest != target.Digest {
				ref = &store.Ref{Name: name, Target: target, Pinned: ref != nil && ref.Pinned}
			}
			ref.Images = slices.DeleteFunc(ref.Images, func(r store.RefImage) bool { return r.Platform == key })
			ref.Images = append(ref.Images, store.RefImage{Platform: key, Manifest: i.Manifest.Digest})
			return ref
		})
		if err != nil {
			return err
		}
	}
	return nil
}
