package provisioner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/stack"
	"github.com/berth-dev/berth/provisioner/store"
)

// checker collects findings.
type checker struct {
	p      *Provisioner
	report containerizer.StoreCheck
	// What is there.
	images []*store.Image
	refs   []*store.Ref
	uses   []*store.Use
	names  []string // of layers
	kept   []digest.Digest
	// What is broken: layers and blobs by name, records by path, and images that
	// cannot be used, or saved.
	layers     map[string]bool
	blobs      map[digest.Digest]bool
	files      map[string]bool
	broken     map[digest.Digest]bool
	incomplete map[digest.Digest]bool
	unlisted   []string // whole layers whose list of files is not
	lost       bool     // an image could not be made again
}

// Check verifies the whole store: records, digests of all blobs, and all layers
// against the lists of their files, or where there is none against their blobs,
// which it unpacks again. With repair it removes what is broken and makes it again,
// of what the store has or what the image's name stands for.
func (p *Provisioner) Check(ctx context.Context, repair bool) (*containerizer.StoreCheck, error) { //nolint:revive // the contract has the flag
	c := &checker{
		p: p, layers: map[string]bool{}, blobs: map[digest.Digest]bool{}, files: map[string]bool{},
		broken: map[digest.Digest]bool{}, incomplete: map[digest.Digest]bool{},
	}
	lease, use, err := c.hold(ctx)
	if errors.Is(err, errNotExist) {
		return &c.report, nil
	}
	if err != nil {
		return nil, err
	}
	err = c.run(ctx, lease)
	if use != nil {
		use.Release()
	}
	if err == nil && repair {
		err = c.repair(ctx)
	}
	if rerr := lease.Release(); err == nil {
		err = rerr
	}
	if err == nil && repair {
		err = c.finish(ctx)
	}
	return &c.report, err
}

func (c *checker) found(format string, args ...any) {
	c.report.Found = append(c.report.Found, fmt.Sprintf(format, args...))
}

// hold reads all records, and keeps what they need from being removed until the
// lease is released: others go on meanwhile. On a full disk, where the lease cannot be
// written, nobody can remove anything as long as use is held.
func (c *checker) hold(ctx context.Context) (lease *store.Lease, use *store.Lock, err error) {
	if use, err = c.p.store.Use(ctx); err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			use.Release()
		}
	}()
	if lease, err = c.p.store.NewLease(ctx); err != nil {
		return nil, nil, err
	}
	if err := c.read(); err != nil {
		return nil, nil, errors.Join(err, lease.Release())
	}
	var blobs []string
	for _, d := range c.kept {
		blobs = append(blobs, string(d))
	}
	names := slices.Clone(c.names)
	for _, i := range c.images {
		names = append(names, i.Stack...)
		for _, d := range i.BlobDigests() {
			blobs = append(blobs, string(d))
		}
	}
	slices.Sort(names)
	slices.Sort(blobs)
	switch err := lease.Hold(ctx, slices.Compact(names), slices.Compact(blobs)); {
	case errors.Is(err, containerizer.ErrResourceExhausted):
		return lease, use, nil
	case err != nil:
		return nil, nil, errors.Join(err, lease.Release())
	}
	use.Release()
	return lease, nil, nil
}

// read reads names before images and images before layers: a pull makes them the
// other way round.
func (c *checker) read() (err error) {
	var broken map[string]error
	if c.refs, broken, err = c.p.store.Refs(); err != nil {
		return err
	}
	c.records(broken)
	if c.uses, broken, err = c.p.store.Uses(); err != nil {
		return err
	}
	for _, path := range slices.Sorted(maps.Keys(broken)) {
		c.found("%v; remove the container", broken[path])
		c.report.Owed = append(c.report.Owed, fmt.Sprintf("remove the container whose record is %q", path))
	}
	if c.images, broken, err = c.p.store.Images(); err != nil {
		return err
	}
	c.records(broken)
	if c.names, err = c.p.store.Layers(); err != nil {
		return err
	}
	slices.Sort(c.names)
	if c.kept, err = c.p.store.Blobs(); err != nil {
		return err
	}
	c.report.Left, err = c.p.store.Leftovers()
	return err
}

func (c *checker) run(ctx context.Context, lease *store.Lease) error {
	if err := c.checkBlobs(ctx); err != nil {
		return err
	}
	for _, name := range c.names {
		if err := c.checkLayer(ctx, lease, name); err != nil {
			return err
		}
	}
	there := map[digest.Digest]bool{}
	for _, i := range c.images {
		c.checkImage(i)
		there[i.Manifest.Digest] = !c.broken[i.Manifest.Digest]
	}
	for _, r := range c.refs {
		for _, i := range r.Images {
			if !there[i.Manifest] {
				c.found("name %q stands for image %s, which is broken or not there", r.Name, i.Manifest)
			}
		}
	}
	c.checkUses()
	return nil
}

func (c *checker) checkUses() {
	for _, u := range c.uses {
		for _, name := range u.Stack {
			if c.layers[name] || !c.p.store.HasLayer(name) {
				c.found("container %q uses layer %q, which is broken or not there", u.ID, name)
			}
		}
	}
}

func (c *checker) records(broken map[string]error) {
	for _, path := range slices.Sorted(maps.Keys(broken)) {
		c.found("%v", broken[path])
		c.files[path] = true
	}
}

// checkBlobs compares all blobs with their digests.
func (c *checker) checkBlobs(ctx context.Context) error {
	for _, d := range c.kept {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := c.p.verifyBlob(d); err != nil {
			c.found("blob %s: %v", d, err)
			c.blobs[d] = true
		}
	}
	return nil
}

// checkLayer verifies the record and the files of a layer.
func (c *checker) checkLayer(ctx context.Context, lease *store.Lease, name string) error {
	l, err := c.p.store.Layer(name)
	if err == nil {
		err = c.verifyLayer(ctx, lease, l)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, containerizer.ErrResourceExhausted) {
		return fmt.Errorf("check layer %q: %w", name, err)
	}
	if err != nil {
		c.found("layer %q: %v", name, err)
		c.layers[name] = true
	}
	return nil
}

// verifyLayer compares a layer with the list of its files; where that is missing or
// damaged, with its blob.
func (c *checker) verifyLayer(ctx context.Context, lease *store.Lease, l *store.Layer) error {
	if err := c.p.verifyDir(l); err != nil {
		return err
	}
	listed := c.verifyList(ctx, l.Name)
	missing := errors.Is(listed, containerizer.ErrNotFound)
	if !missing && !errors.Is(listed, stack.ErrList) {
		return listed
	}
	if l.Blob != "" && !c.blobs[l.Blob] && c.p.store.HasBlob(l.Blob, 0) && len(c.p.o.UnpackCommand) > 0 {
		if err := c.p.verifyFiles(ctx, lease, l); err != nil {
			return err
		}
	}
	if missing {
		if c.p.store.AwaitsList(l.Name) {
			return nil // it is too young
		}
		// Or it was made after it was looked for.
		if listed = c.verifyList(ctx, l.Name); !errors.Is(listed, containerizer.ErrNotFound) && !errors.Is(listed, stack.ErrList) {
			return listed
		}
	}
	c.found("layer %q: the list of its files is missing or damaged", l.Name)
	c.unlisted = append(c.unlisted, l.Name)
	return nil
}

func (c *checker) verifyList(ctx context.Context, name string) error {
	return stack.VerifyFile(ctx, c.p.store.ListPath(name), c.p.store.LayerPath(name))
}

// checkImage verifies that all an image needs is there.
func (c *checker) checkImage(i *store.Image) {
	m := i.Manifest.Digest
	for _, d := range []v1.Descriptor{i.Manifest, i.ConfigID} {
		if c.blobs[d.Digest] || !c.p.store.HasBlob(d.Digest, d.Size) {
			c.found("image %s: its document %s is broken or not there", m, d.Digest)
			c.broken[m] = true
		}
	}
	for _, name := range i.Stack {
		if c.layers[name] || !c.p.store.HasLayer(name) {
			c.found("image %s: its layer %q is broken or not there", m, name)
			c.broken[m] = true
		}
	}
	blobs := []v1.Descriptor{}
	if i.Index != "" {
		blobs = append(blobs, v1.Descriptor{Digest: i.Index})
	}
	for _, l := range i.Layers {
		blobs = append(blobs, l.Blob)
	}
	for _, d := range blobs {
		if c.blobs[d.Digest] || !c.p.store.HasBlob(d.Digest, d.Size) {
			c.found("image %s: its blob %s is broken or not there (it cannot be saved)", m, d.Digest)
			c.incomplete[m] = true
		}
	}
}
