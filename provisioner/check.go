package provisioner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/manifest"
	"github.com/berth-dev/berth/provisioner/stack"
	"github.com/berth-dev/berth/provisioner/store"
	"github.com/berth-dev/berth/provisioner/unpack"
)

// checker collects findings.
type checker struct {
	p        *Provisioner
	findings []string
	// What is broken, and goes with repair.
	layers map[string]bool
	blobs  map[digest.Digest]bool
	files  map[string]bool
	images map[digest.Digest]bool
}

// Check verifies the whole store: records, digests of all blobs, and the files of
// all layers against their blobs, which it unpacks again. With repair it removes
// what is broken, so that the next pull fetches it anew.
func (p *Provisioner) Check(ctx context.Context, repair bool) ([]string, error) { //nolint:revive // the contract has the flag
	// Others are kept from removing anything, and with repair from using it.
	take := p.store.Use
	if repair {
		take = p.store.Collect
	}
	lock, err := take(ctx)
	if errors.Is(err, errNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	c := &checker{
		p: p, layers: map[string]bool{}, blobs: map[digest.Digest]bool{}, files: map[string]bool{},
		images: map[digest.Digest]bool{},
	}
	if err := c.run(ctx); err != nil {
		return c.findings, err
	}
	if !repair || len(c.findings) == 0 {
		return c.findings, nil
	}
	return c.findings, c.remove(ctx)
}

func (c *checker) found(format string, args ...any) {
	c.findings = append(c.findings, fmt.Sprintf(format, args...))
}

func (c *checker) run(ctx context.Context) error {
	images, broken, err := c.p.store.Images()
	if err != nil {
		return err
	}
	c.records(broken)
	refs, broken, err := c.p.store.Refs()
	if err != nil {
		return err
	}
	c.records(broken)
	uses, broken, err := c.p.store.Uses()
	if err != nil {
		return err
	}
	for _, path := range slices.Sorted(maps.Keys(broken)) {
		c.found("%v; remove the container", broken[path])
	}
	if err := c.checkBlobs(ctx); err != nil {
		return err
	}
	if err := c.checkLayers(ctx); err != nil {
		return err
	}
	there := map[digest.Digest]bool{}
	for _, i := range images {
		c.checkImage(i)
		there[i.Manifest.Digest] = !c.images[i.Manifest.Digest]
	}
	c.checkRefs(refs, there)
	c.checkUses(uses)
	return nil
}

func (c *checker) checkRefs(refs []*store.Ref, there map[digest.Digest]bool) {
	for _, r := range refs {
		for _, i := range r.Images {
			if !there[i.Manifest] {
				c.found("name %q stands for image %s, which is broken or not there", r.Name, i.Manifest)
				c.files[c.p.store.RefFile(r.Name)] = true
			}
		}
	}
}

func (c *checker) checkUses(uses []*store.Use) {
	for _, u := range uses {
		for _, name := range u.Stack {
			if c.layers[name] || !c.p.store.HasLayer(name) {
				c.found("container %q uses layer %q, which is broken or not there; remove the container", u.ID, name)
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
	blobs, err := c.p.store.Blobs()
	if err != nil {
		return err
	}
	for _, d := range blobs {
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

func (p *Provisioner) verifyBlob(d digest.Digest) error {
	if err := manifest.CheckDigest(d); err != nil {
		return err
	}
	f, err := os.Open(p.store.BlobPath(d))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	h := manifest.NewHash(d)
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := manifest.Sum(d, h); got != d {
		return fmt.Errorf("its content has the digest %s: %w", got, containerizer.ErrDataCorrupt)
	}
	return nil
}

// checkLayers verifies the records and files of all layers.
func (c *checker) checkLayers(ctx context.Context) error {
	names, err := c.p.store.Layers()
	if err != nil {
		return err
	}
	slices.Sort(names)
	lease, err := c.p.store.NewLease(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = lease.Release() }() // the sweep removes what is left
	for _, name := range names {
		l, err := c.p.store.Layer(name)
		if err == nil {
			err = c.p.verifyDir(l)
		}
		if err == nil && l.Blob != "" && !c.blobs[l.Blob] && c.p.store.HasBlob(l.Blob, 0) && len(c.p.o.UnpackCommand) > 0 {
			err = c.p.verifyFiles(ctx, lease, l)
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
	}
	return nil
}

// verifyDir is all that can be verified of a layer without its blob, and of what
// was made for a stack.
func (p *Provisioner) verifyDir(l *store.Layer) error {
	path := p.store.LayerPath(l.Name)
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%q is not a directory: %w", path, containerizer.ErrDataCorrupt)
	}
	return nil
}

// verifyFiles unpacks a layer's blob again and compares the files.
func (p *Provisioner) verifyFiles(ctx context.Context, lease *store.Lease, l *store.Layer) error {
	stage, err := lease.Stage()
	if err != nil {
		return err
	}
	defer func() { _ = p.store.Trash(stage) }() // its lease gives it up in any case
	target, err := makeTarget(stage)
	if err != nil {
		return err
	}
	defer func() { _ = target.Close() }()
	blob, err := os.Open(p.store.BlobPath(l.Blob))
	if err != nil {
		return err
	}
	defer func() { _ = blob.Close() }()
	res, err := unpack.Run(ctx, p.o.UnpackCommand, target, blob, p.o.Limits)
	if err != nil {
		return fmt.Errorf("unpack again: %w", err)
	}
	if store.LayerName(res.DiffID) != l.Name {
		return fmt.Errorf("its blob %s has the diffID %s: %w", l.Blob, res.DiffID, containerizer.ErrDataCorrupt)
	}
	return stack.Compare(p.store.LayerPath(l.Name), filepath.Join(stage, "fs"))
}

// checkImage verifies that all an image needs is there.
func (c *checker) checkImage(i *store.Image) {
	bad := func(format string, args ...any) {
		c.found("image %s: %s", i.Manifest.Digest, fmt.Sprintf(format, args...))
		c.images[i.Manifest.Digest] = true
	}
	for _, d := range []v1.Descriptor{i.Manifest, i.ConfigID} {
		if c.blobs[d.Digest] || !c.p.store.HasBlob(d.Digest, d.Size) {
			bad("its document %s is broken or not there", d.Digest)
		}
	}
	for _, name := range i.Stack {
		if c.layers[name] || !c.p.store.HasLayer(name) {
			bad("its layer %q is broken or not there", name)
		}
	}
	for _, l := range i.Layers {
		if c.blobs[l.Blob.Digest] || !c.p.store.HasBlob(l.Blob.Digest, l.Blob.Size) {
			bad("its blob %s is broken or not there (it cannot be saved)", l.Blob.Digest)
		}
	}
}

// remove takes away what is broken, and what nothing needs then.
func (c *checker) remove(ctx context.Context) error {
	var errs []error
	for d := range c.images {
		errs = append(errs, c.p.store.DropImage(d))
	}
	for path := range c.files {
		errs = append(errs, c.p.store.DropFile(path))
	}
	for name := range c.layers {
		errs = append(errs, c.p.store.DropLayer(name))
	}
	for d := range c.blobs {
		errs = append(errs, c.p.store.DropFile(c.p.store.BlobPath(d)))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	images, _, err := c.p.store.Images()
	if err != nil {
		return err
	}
	_, err = c.p.store.CollectGarbage(ctx, images)
	return err
}
