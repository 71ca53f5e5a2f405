package provisioner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/provisioner/listing"
	"github.com/berth-dev/berth/provisioner/manifest"
	"github.com/berth-dev/berth/provisioner/store"
)

// Pull makes an image available. A prune may come before it could be looked at; then it
// is pulled again.
func (p *Provisioner) Pull(ctx context.Context, source containerizer.ImageSource, o containerizer.PullOptions) (i *containerizer.Image, err error) {
	progress := newProgress(o.Progress)
	names, local, err := p.search(source.Reference)
	if err != nil {
		return nil, err
	}
	for range attempts {
		var pulled *store.Image
		if pulled, err = p.pullOnce(ctx, source, names, local, progress); err != nil {
			return nil, err
		}
		if i, err = p.Inspect(ctx, string(pulled.Manifest.Digest)); !errors.Is(err, containerizer.ErrNotFound) {
			return i, err
		}
	}
	return i, err
}

func (p *Provisioner) pullOnce(ctx context.Context, source containerizer.ImageSource, names []string, local bool, progress *progress) (i *store.Image, err error) { //nolint:revive // local is the name's, not a mode
	var name string
	if source.Pull == containerizer.PullNever || source.Pull == containerizer.PullMissing && !local {
		f, err := p.hold(ctx, source, p.known(names))
		switch {
		case err == nil:
			f.release()
			i, name = f.image, f.name
			progress.existing(i)
		case source.Pull == containerizer.PullNever || !errors.Is(err, containerizer.ErrNotFound) && !errors.Is(err, containerizer.ErrDataCorrupt):
			return nil, err
		}
	}
	if i == nil {
		if i, name, err = p.pullAny(ctx, source, names, progress); err != nil {
			return nil, err
		}
	}
	return i, p.allowed(ctx, source, name, i)
}

// List returns all images, the latest pulled first. As long as nothing has changed it
// reads one file.
func (p *Provisioner) List(context.Context) ([]containerizer.Image, error) {
	stamp := p.store.Stamp()
	if stamp != "" {
		if list, ok := listing.Decode(p.store.Listing(), stamp); ok {
			return list, nil
		}
	}
	s, err := p.snapshot()
	if err != nil {
		return nil, err
	}
	slices.SortFunc(s.images, func(a, b *store.Image) int {
		if c := b.PulledAt.Compare(a.PulledAt); c != 0 {
			return c
		}
		return strings.Compare(string(a.Manifest.Digest), string(b.Manifest.Digest))
	})
	out := make([]containerizer.Image, 0, len(s.images))
	for _, i := range s.images {
		out = append(out, s.describe(i))
	}
	if stamp != "" {
		if err := p.store.WriteListing(listing.Encode(stamp, out)); err != nil { // the next one reads the records, too
			p.log.Debug("list of images not kept", log.Error(err))
		}
	}
	return out, nil
}

// Inspect finds an image and returns all that is known of it. It waits for nobody: when
// a part of it goes while it is read, it is looked for again, and then is not there.
func (p *Provisioner) Inspect(ctx context.Context, nameOrDigest string) (image *containerizer.Image, err error) {
	for range attempts {
		i, _, lerr := p.local(nameOrDigest)
		if lerr != nil {
			return nil, storeError(nameOrDigest, lerr)
		}
		if image, err = p.describe(ctx, i); err == nil {
			return image, nil
		}
	}
	return nil, fmt.Errorf("image %q: %w", nameOrDigest, err)
}

// describe returns all that is known of an image of the store.
func (p *Provisioner) describe(ctx context.Context, i *store.Image) (*containerizer.Image, error) {
	all, err := p.List(ctx)
	if err != nil {
		return nil, err
	}
	n := slices.IndexFunc(all, func(other containerizer.Image) bool { return other.Manifest == i.Manifest.Digest })
	if n < 0 {
		return nil, fmt.Errorf("it was removed meanwhile: %w", containerizer.ErrNotFound)
	}
	out := all[n]
	raw, err := p.readDocument(i.ConfigID, manifest.MaxConfigBytes)
	if err != nil {
		return nil, err
	}
	m := &v1.Manifest{Config: i.ConfigID, Layers: make([]v1.Descriptor, len(i.Layers))}
	if out.Configuration, err = manifest.Config(m, raw); err != nil {
		return nil, err
	}
	return &out, nil
}

// local finds an image of the store by name or digest. name is "" for a digest.
func (p *Provisioner) local(nameOrDigest string) (i *store.Image, name string, err error) {
	names, _, err := p.search(nameOrDigest)
	if err == nil {
		name = p.known(names)
		if i, err = p.lookup(name, manifest.Host(), ""); err == nil {
			return i, name, nil
		}
		if ref, rerr := p.store.Ref(name); rerr == nil && len(ref.Images) > 0 && !errors.Is(err, containerizer.ErrDataCorrupt) {
			i, err = p.store.Image(ref.Images[0].Manifest) // of another platform
			return i, name, err
		}
	}
	if imageID(nameOrDigest) {
		i, iderr := p.byID(nameOrDigest)
		if iderr == nil || !errors.Is(iderr, containerizer.ErrNotFound) || err == nil {
			return i, "", iderr
		}
	}
	if errors.Is(err, containerizer.ErrNotFound) {
		err = fmt.Errorf("image %q is not in the store: %w", nameOrDigest, containerizer.ErrNotFound)
	}
	return nil, "", err
}

// Tag gives an image one more name.
func (p *Provisioner) Tag(ctx context.Context, nameOrDigest, reference string) error {
	name, local, err := p.fetcher.Name(reference)
	if err != nil {
		return err
	}
	if local || strings.Contains(name, "@") {
		return fmt.Errorf("%q cannot be given as a name: it names a path or a digest: %w", reference, containerizer.ErrInvalid)
	}
	use, err := p.store.Use(ctx)
	if err != nil {
		return storeError(nameOrDigest, err)
	}
	defer use.Release()
	i, old, err := p.local(nameOrDigest)
	if err != nil {
		return err
	}
	ref := &store.Ref{Target: i.Manifest, Images: []store.RefImage{{Platform: manifest.String(manifest.Host()), Manifest: i.Manifest.Digest}}}
	if old != "" {
		if ref, err = p.store.Ref(old); err != nil {
			return err
		}
	}
	ref.Name, ref.Pinned = name, false
	return p.store.UpdateRef(ctx, name, func(*store.Ref) *store.Ref { return ref })
}

// storeError says of a store that does not exist yet that the image is missing.
func storeError(image string, err error) error {
	if errors.Is(err, errNotExist) {
		return fmt.Errorf("image %q is not in the store: %w", image, containerizer.ErrNotFound)
	}
	return err
}

// Usage tells what the store takes on disk.
func (p *Provisioner) Usage(context.Context) (*containerizer.StoreUsage, error) {
	s, err := p.snapshot()
	if err != nil {
		return nil, err
	}
	u := &containerizer.StoreUsage{Images: len(s.images)}
	names, err := p.store.Layers()
	if err != nil {
		return nil, err
	}
	used, err := p.usedBy()
	if err != nil {
		return nil, err
	}
	held := s.held(used)
	for _, n := range names {
		l, err := p.store.Layer(n)
		if err != nil {
			continue // Check reports it
		}
		if !store.IsFix(n) {
			u.Layers++
		}
		u.LayerBytes += l.Content.DiskBytes
		if !held[n] {
			u.ReclaimableBytes += l.Content.DiskBytes
		}
	}
	blobs, err := p.store.Blobs()
	if err != nil {
		return nil, err
	}
	for _, d := range blobs {
		n := p.store.BlobBytes(d)
		u.BlobBytes += n
		if !held[string(d)] {
			u.ReclaimableBytes += n
		}
	}
	if u.WritableBytes, err = p.store.WritableBytes(); err != nil && !errors.Is(err, errNotExist) {
		return nil, err
	}
	return u, nil
}

// usedBy lists the containers of each image.
func (p *Provisioner) usedBy() (map[digest.Digest][]string, error) {
	uses, _, err := p.store.Uses()
	if err != nil {
		return nil, err
	}
	out := map[digest.Digest][]string{}
	for _, u := range uses {
		out[u.Manifest] = append(out[u.Manifest], string(u.ID))
	}
	return out, nil
}

// readDocument reads a small blob of the store and verifies it.
func (p *Provisioner) readDocument(d v1.Descriptor, limit int64) ([]byte, error) {
	raw, err := p.store.ReadBlob(d.Digest, limit)
	if err != nil {
		return nil, err
	}
	return raw, manifest.Verify(d, raw)
}

// older says whether an image was pulled longer than d ago.
func older(i *store.Image, d time.Duration) bool { return d <= 0 || time.Since(i.PulledAt) > d }
