package provisioner

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/manifest"
	"github.com/berth-dev/berth/provisioner/stack"
	"github.com/berth-dev/berth/provisioner/store"
)

var _ containerizer.Doubter = (*partOrigin)(nil)

func (c *checker) did(format string, args ...any) {
	c.report.Repaired = append(c.report.Repaired, fmt.Sprintf(format, args...))
}

func (c *checker) owe(format string, args ...any) {
	c.report.Owed = append(c.report.Owed, fmt.Sprintf(format, args...))
}

// repair removes what is broken, so that nobody starts with it, and makes it again.
// The checker's lease keeps the whole parts of broken images meanwhile.
func (c *checker) repair(ctx context.Context) error {
	if err := c.remove(ctx); err != nil {
		return err
	}
	for _, name := range c.unlisted {
		if err := c.p.store.MakeList(ctx, name, stack.List); err != nil {
			return fmt.Errorf("list the files of layer %q: %w", name, err)
		}
		c.did("layer %q: the list of its files made anew", name)
	}
	if err := c.rename(); err != nil {
		return err
	}
	return c.restore(ctx)
}

// rename makes broken records of names again, as far as images remember them.
func (c *checker) rename() error {
	for _, path := range slices.Sorted(maps.Keys(c.files)) {
		if !c.p.store.IsRefFile(path) {
			continue
		}
		r := c.remembered(path)
		if r == nil {
			c.owe("a name was lost with its record %q; pull or tag the image again", path)
			continue
		}
		if err := c.p.store.PutRef(r); err != nil {
			return err
		}
		c.refs = append(c.refs, r)
		c.did("name %q given to image %s again", r.Name, r.Images[0].Manifest)
	}
	return nil
}

// remembered is what the record at path was; nil when no image was pulled by its name.
func (c *checker) remembered(path string) *store.Ref {
	for _, i := range c.images {
		for _, name := range i.Names {
			if c.p.store.RefFile(name) != path {
				continue
			}
			r := &store.Ref{Name: name, Target: i.Manifest, Images: []store.RefImage{{Platform: manifest.String(i.Platform), Manifest: i.Manifest.Digest}}}
			if i.Index != "" {
				r.Target = v1.Descriptor{Digest: i.Index}
			}
			return r
		}
	}
	return nil
}

// remove takes away what is broken.
func (c *checker) remove(ctx context.Context) error {
	lock, err := c.p.store.Collect(ctx)
	if err != nil {
		return err
	}
	defer lock.Release()
	for _, path := range slices.Sorted(maps.Keys(c.files)) {
		if err := c.p.store.DropFile(path); err != nil {
			return err
		}
		c.did("record %q removed", path)
	}
	for _, m := range slices.Sorted(maps.Keys(c.broken)) {
		if err := c.p.store.DropImage(m); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.layers)) {
		drop := c.p.store.RemoveLayer
		if c.used(name) {
			drop = c.p.store.SetAside
		}
		if err := drop(name); err != nil {
			return err
		}
		c.did("layer %q removed", name)
	}
	for _, d := range slices.Sorted(maps.Keys(c.blobs)) {
		if err := c.p.store.DropFile(c.p.store.BlobPath(d)); err != nil {
			return err
		}
		c.did("blob %s removed", d)
	}
	return nil
}

// used says whether a container uses a layer.
func (c *checker) used(layer string) bool {
	return slices.ContainsFunc(c.uses, func(u *store.Use) bool { return slices.Contains(u.Stack, layer) })
}

// wanted is an image to be restored, and where it comes from.
type wanted struct {
	manifest digest.Digest
	target   v1.Descriptor // what to ask for: the manifest, or the index it is in
	name     string        // where to ask
	platform string
	names    []string // that are to stand for it
}

// wanted lists the images that names and containers need and that are not whole.
func (c *checker) wanted() []wanted {
	whole := map[digest.Digest]bool{}
	for _, i := range c.images {
		m := i.Manifest.Digest
		whole[m] = !c.broken[m] && !c.incomplete[m]
	}
	var out []wanted
	for _, r := range c.refs {
		for _, i := range r.Images {
			if !whole[i.Manifest] {
				out = append(out, wanted{i.Manifest, r.Target, r.Name, i.Platform, []string{r.Name}})
			}
		}
	}
	for _, u := range c.uses { // of an image that has lost its name
		known := slices.ContainsFunc(out, func(w wanted) bool { return w.manifest == u.Manifest })
		if !whole[u.Manifest] && !known {
			out = append(out, wanted{u.Manifest, v1.Descriptor{Digest: u.Manifest}, u.Reference, u.Source.Platform, []string{}})
		}
	}
	return out
}

// restore makes broken images again.
func (c *checker) restore(ctx context.Context) error {
	done := map[digest.Digest]bool{}
	for _, w := range c.wanted() {
		fetched, err := c.p.restore(ctx, w)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			c.lost = true
			c.owe("image %s, called %q, could not be made again: %v; pull it, or remove its name", w.manifest, w.name, err)
			continue
		}
		done[w.manifest] = true
		if fetched {
			c.did("image %s fetched again as %q", w.manifest, w.name)
		} else {
			c.did("image %s, called %q, made again of what the store has", w.manifest, w.name)
		}
	}
	for _, i := range c.images {
		if m := i.Manifest.Digest; c.broken[m] && !done[m] && !c.named(m) {
			c.did("image %s removed: it has no name to fetch it by", m)
		}
	}
	for _, u := range c.uses {
		lost := slices.ContainsFunc(u.Stack, func(n string) bool { return !c.p.store.HasLayer(n) })
		switch damaged := slices.ContainsFunc(u.Stack, func(n string) bool { return c.layers[n] }); {
		case lost:
			c.owe("container %q has lost its image; remove it, or pull %q", u.ID, u.Reference)
		case damaged:
			c.did("container %q: its image is whole again from its next start on", u.ID)
		}
	}
	return nil
}

func (c *checker) named(m digest.Digest) bool {
	return slices.ContainsFunc(c.refs, func(r *store.Ref) bool {
		return slices.ContainsFunc(r.Images, func(i store.RefImage) bool { return i.Manifest == m })
	})
}

// finish takes away what nothing needs any more, and what dead processes left. Names
// of what could not be made again stay, and so does what there is of it: the next pull
// or repair needs less.
func (c *checker) finish(ctx context.Context) error {
	if len(c.report.Left) > 0 {
		if err := c.p.store.Sweep(ctx); err != nil {
			return err
		}
		for _, left := range c.report.Left {
			c.did("%s removed, which a process that died had left over", left)
		}
	}
	if len(c.report.Found) == 0 || c.lost {
		return nil
	}
	return c.p.collect(ctx)
}

// restore makes one image again. What the store has of it is verified on the way;
// what is missing is fetched, by digest: a name may stand for something else now.
func (p *Provisioner) restore(ctx context.Context, w wanted) (fetched bool, err error) {
	want, err := manifest.ParsePlatform(w.platform)
	if err != nil {
		return false, err
	}
	o := &partOrigin{p: p, w: w}
	defer func() { _ = o.Close() }() // was only read
	target, raw, err := o.Resolve(ctx)
	if err != nil {
		return o.remote != nil, err
	}
	if target.Digest != w.target.Digest {
		return o.remote != nil, fmt.Errorf("%q stands for %s now: %w", w.name, target.Digest, containerizer.ErrNotFound)
	}
	r, err := p.resolve(ctx, o, target, raw, want)
	if err == nil {
		_, err = p.take(ctx, o, r, nil, w.names, want, newProgress(nil)) // where it came from is recorded
	}
	return o.remote != nil, err
}

// partOrigin brings what the store has from there, and the rest from elsewhere.
type partOrigin struct {
	p      *Provisioner
	w      wanted
	remote containerizer.ImageOrigin // nil until it is needed
}

// Resolve returns what the wanted image was chosen from.
func (o *partOrigin) Resolve(ctx context.Context) (v1.Descriptor, []byte, error) {
	d := o.w.target
	raw, err := o.p.store.ReadBlob(d.Digest, manifest.MaxManifestBytes)
	if err == nil {
		d.Size = int64(len(raw))
		if manifest.Verify(d, raw) == nil {
			return d, raw, nil
		}
	}
	if err := o.connect(ctx); err != nil {
		return v1.Descriptor{}, nil, err
	}
	return o.remote.Resolve(ctx)
}

// Open opens a blob. What is there but broken was removed before.
func (o *partOrigin) Open(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	if o.p.store.HasBlob(d.Digest, d.Size) {
		return os.Open(o.p.store.BlobPath(d.Digest))
	}
	if err := o.connect(ctx); err != nil {
		return nil, err
	}
	return o.remote.Open(ctx, d)
}

func (o *partOrigin) connect(ctx context.Context) error {
	if o.remote != nil {
		return nil
	}
	name, local, err := o.p.fetcher.Name(o.w.name)
	if err == nil && !local && !strings.Contains(name, "@") {
		name, _, err = o.p.fetcher.Name(name + "@" + string(o.w.target.Digest))
	}
	if err != nil {
		return err
	}
	o.remote, err = o.p.fetcher.Connect(ctx, name, nil)
	return err
}

// Doubt says whether there is another source of what was fetched and was wrong.
func (o *partOrigin) Doubt(d v1.Descriptor) bool {
	doubter, ok := o.remote.(containerizer.Doubter)
	return ok && doubter.Doubt(d)
}

// Close closes the connection.
func (o *partOrigin) Close() error {
	if o.remote == nil {
		return nil
	}
	return o.remote.Close()
}
