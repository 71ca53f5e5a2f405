package provisioner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/manifest"
	"github.com/berth-dev/berth/provisioner/store"
)

// Copy copies an image from one place to another.
func (p *Provisioner) Copy(ctx context.Context, source, target string, o containerizer.CopyOptions) (digest.Digest, error) {
	name, _, err := p.fetcher.Name(source)
	if err != nil {
		return "", err
	}
	origin, err := p.fetcher.Connect(ctx, name, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = origin.Close() }() // was only read
	d, err := p.move(ctx, origin, target, o)
	if err != nil {
		return "", fmt.Errorf("copy image %q to %q: %w", source, target, err)
	}
	return d, nil
}

// Push sends a local image elsewhere.
func (p *Provisioner) Push(ctx context.Context, nameOrDigest, target string, o containerizer.CopyOptions) (_ digest.Digest, err error) {
	if !p.store.Exists() {
		return "", storeError(nameOrDigest, errNotExist)
	}
	i, name, err := p.local(nameOrDigest)
	if err != nil {
		return "", err
	}
	if target == "" {
		target = name
	}
	if target == "" {
		return "", fmt.Errorf("image %q is named by its id: where it is to go has to be said: %w", nameOrDigest, containerizer.ErrInvalid)
	}
	lease, err := p.store.NewLease(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lease.Release()) }()
	origin, err := p.kept(ctx, lease, i, name)
	if err != nil {
		return "", err
	}
	d, err := p.move(ctx, origin, target, o)
	if err != nil {
		return "", fmt.Errorf("push image %q to %q: %w", nameOrDigest, target, err)
	}
	return d, nil
}

// kept is a local image as the origin of a copy. Its blobs stay while lease is held.
func (p *Provisioner) kept(ctx context.Context, lease *store.Lease, i *store.Image, name string) (*keptOrigin, error) {
	o := &keptOrigin{p: p, d: i.Manifest}
	held := []string{}
	for _, d := range i.BlobDigests() {
		held = append(held, string(d))
	}
	var whole []v1.Descriptor
	if ref, err := p.store.Ref(name); name != "" && err == nil && ref.Target.Digest == i.Index {
		if whole = p.whole(ref.Target, 0); whole != nil {
			o.d = ref.Target
		}
	}
	for _, d := range whole {
		held = append(held, string(d.Digest))
	}
	return o, lease.Hold(ctx, nil, held)
}

// whole lists all blobs of an index and what is below; nil when one is not here.
func (p *Provisioner) whole(d v1.Descriptor, depth int) []v1.Descriptor {
	raw, err := p.readDocument(d, manifest.MaxManifestBytes)
	if err != nil || depth > maxIndexDepth {
		return nil
	}
	doc, err := manifest.Parse(d, raw)
	if err != nil {
		return nil
	}
	out := []v1.Descriptor{d}
	if doc.Manifest != nil {
		for _, b := range append(doc.Manifest.Layers, doc.Manifest.Config) {
			if !p.store.HasBlob(b.Digest, b.Size) {
				return nil
			}
			out = append(out, b)
		}
		return out
	}
	for _, m := range doc.Index.Manifests {
		below := p.whole(m, depth+1)
		if below == nil {
			return nil
		}
		out = append(out, below...)
	}
	return out
}

// keptOrigin is an image of the store.
type keptOrigin struct {
	p *Provisioner
	d v1.Descriptor
}

// Resolve returns the manifest or index.
func (o *keptOrigin) Resolve(context.Context) (v1.Descriptor, []byte, error) {
	raw, err := o.p.readDocument(o.d, manifest.MaxManifestBytes)
	return o.d, raw, err
}

// Open opens a blob.
func (o *keptOrigin) Open(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	f, err := os.Open(o.p.store.BlobPath(d.Digest))
	if errors.Is(err, errNotExist) {
		return nil, fmt.Errorf("blob %s is not kept; pull the image again: %w", d.Digest, containerizer.ErrFailedPrecondition)
	}
	return f, err
}

// Close does nothing.
func (*keptOrigin) Close() error { return nil }

// move copies what origin has to target.
func (p *Provisioner) move(ctx context.Context, origin containerizer.ImageOrigin, target string, o containerizer.CopyOptions) (_ digest.Digest, err error) {
	sender, ok := p.fetcher.(containerizer.ImageSender)
	if !ok {
		return "", fmt.Errorf("nothing here can bring images elsewhere: %w", containerizer.ErrUnsupported)
	}
	want, err := manifest.ParsePlatform(o.Platform)
	if err != nil {
		return "", err
	}
	d, raw, err := origin.Resolve(ctx) // before anything is made
	if err != nil {
		return "", err
	}
	to, err := sender.Destination(ctx, target)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	t := &transfer{from: origin, to: to, progress: newProgress(o.Progress), done: map[digest.Digest]bool{}, parallel: p.o.Parallel}
	if o.Platform != "" || to.Single() {
		if d, raw, err = t.narrow(ctx, d, raw, want); err != nil {
			return "", err
		}
	}
	if d, err = t.document(ctx, d, raw, 0); err != nil {
		return "", err
	}
	return d.Digest, to.Commit(ctx, d)
}

// transfer is one image on its way from one place to another. All of it is verified
// in between, and nothing is changed.
type transfer struct {
	from     containerizer.ImageOrigin
	to       containerizer.ImageDestination
	progress *progress
	done     map[digest.Digest]bool // blobs
	parallel int
}

// narrow goes down from an index to the manifest of one platform.
func (t *transfer) narrow(ctx context.Context, d v1.Descriptor, raw []byte, want v1.Platform) (v1.Descriptor, []byte, error) {
	for depth := 0; ; depth++ {
		doc, err := manifest.Parse(d, raw)
		if err != nil || doc.Manifest != nil {
			return d, raw, err
		}
		if depth >= maxIndexDepth {
			return d, nil, fmt.Errorf("more than %d indexes within each other: %w", maxIndexDepth, containerizer.ErrInvalid)
		}
		if d, err = manifest.Choose(doc.Index, want); err != nil {
			return d, nil, err
		}
		if raw, err = document(ctx, t.from, d, manifest.MaxManifestBytes); err != nil {
			return d, nil, err
		}
	}
}

// document copies a manifest or index after everything that it names.
func (t *transfer) document(ctx context.Context, d v1.Descriptor, raw []byte, depth int) (v1.Descriptor, error) {
	doc, err := manifest.Parse(d, raw)
	if err != nil {
		return d, err
	}
	d.Size = int64(len(raw))
	if doc.Manifest != nil {
		d.MediaType = or(doc.Manifest.MediaType, or(d.MediaType, v1.MediaTypeImageManifest))
		err = t.blobs(ctx, append(slices.Clone(doc.Manifest.Layers), doc.Manifest.Config))
	} else {
		d.MediaType = or(doc.Index.MediaType, or(d.MediaType, v1.MediaTypeImageIndex))
		err = t.entries(ctx, doc.Index.Manifests, depth)
	}
	if err != nil {
		return d, err
	}
	return d, t.to.PutManifest(ctx, d, raw)
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (t *transfer) entries(ctx context.Context, entries []v1.Descriptor, depth int) error {
	if depth >= maxIndexDepth {
		return fmt.Errorf("more than %d indexes within each other: %w", maxIndexDepth, containerizer.ErrInvalid)
	}
	for _, e := range entries {
		raw, err := document(ctx, t.from, e, manifest.MaxManifestBytes)
		if errors.Is(err, containerizer.ErrNotFound) {
			err = fmt.Errorf("its source has not all platforms; name one that it has: %w", err)
		}
		if err == nil {
			_, err = t.document(ctx, e, raw, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// blobs copies those that were not copied yet, several at once.
func (t *transfer) blobs(ctx context.Context, blobs []v1.Descriptor) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(t.parallel)
	for _, b := range blobs {
		if t.done[b.Digest] {
			continue
		}
		t.done[b.Digest] = true
		t.progress.waiting(b)
		g.Go(func() error { return t.blob(ctx, b) })
	}
	return g.Wait()
}

func (t *transfer) blob(ctx context.Context, d v1.Descriptor) error {
	sent := false
	err := t.to.PutBlob(ctx, d, func() (io.ReadCloser, error) {
		sent = true
		src, err := t.from.Open(ctx, d)
		if err != nil {
			return nil, err
		}
		v := &verifier{r: src, d: d, hash: manifest.NewHash(d.Digest), progress: t.progress, phase: containerizer.PhaseUploading}
		return &checked{v: v, c: src}, nil
	})
	if err != nil {
		return err
	}
	phase := containerizer.PhaseComplete
	if !sent {
		phase = containerizer.PhaseExists
	}
	t.progress.done(d, phase)
	return nil
}

// checked ends properly only if all of the blob came.
type checked struct {
	v *verifier
	c io.Closer
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.v.Read(p)
	if errors.Is(err, io.EOF) {
		if bad := c.v.finish(); bad != nil {
			return n, fmt.Errorf("blob %s: %w", c.v.d.Digest, bad)
		}
	}
	return n, err
}

// Close closes the source.
func (c *checked) Close() error { return c.c.Close() }
