package provisioner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/provisioner/manifest"
	"github.com/berth-dev/berth/provisioner/store"
	"github.com/berth-dev/berth/provisioner/unpack"
)

// Import makes an image of a root filesystem's tar archive. The archive, compressed
// as it came, is the image's one layer.
func (p *Provisioner) Import(ctx context.Context, r io.Reader, o containerizer.ImportOptions) (_ *containerizer.Image, err error) {
	i := &importing{p: p, now: time.Now().UTC().Truncate(time.Second), progress: newProgress(o.Progress)}
	if err := i.options(o); err != nil {
		return nil, err
	}
	if err := p.store.Init(); err != nil {
		return nil, err
	}
	defer func() { p.giveBack(ctx, err) }()
	if i.lease, err = p.store.NewLease(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, i.lease.Release()) }()
	l, err := i.layer(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", nameOf(r), err)
	}
	res, err := i.documents(l)
	if err != nil {
		return nil, err
	}
	image, err := p.take(ctx, nil, res, nil, i.names, i.platform, i.progress)
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", nameOf(r), err)
	}
	return p.Inspect(ctx, string(image.Manifest.Digest))
}

// importing is an import under way.
type importing struct {
	p        *Provisioner
	lease    *store.Lease
	progress *progress
	now      time.Time
	names    []string
	platform v1.Platform
	config   v1.ImageConfig
	message  string
}

func (i *importing) options(o containerizer.ImportOptions) (err error) {
	i.names, i.message = []string{}, o.Message
	if i.platform, err = manifest.ParsePlatform(o.Platform); err != nil {
		return err
	}
	if o.Reference != "" {
		name, local, err := i.p.fetcher.Name(o.Reference)
		if err != nil {
			return err
		}
		if local || strings.Contains(name, "@") {
			return fmt.Errorf("%q cannot be given as a name: it names a path or a digest: %w", o.Reference, containerizer.ErrInvalid)
		}
		i.names = append(i.names, name)
	}
	for _, c := range o.Changes {
		if err := manifest.Change(&i.config, c); err != nil {
			return err
		}
	}
	return nil
}

// layer unpacks the archive and keeps it as a blob.
func (i *importing) layer(ctx context.Context, r io.Reader) (l store.ImageLayer, err error) {
	f, err := i.lease.StageFile()
	if err != nil {
		return l, err
	}
	defer func() { _ = f.Close() }() // a failed write was reported when it was made
	stage, err := i.lease.Stage()
	if err != nil {
		return l, err
	}
	target, err := makeTarget(stage)
	if err != nil {
		return l, err
	}
	defer func() { _ = target.Close() }()
	in := &archived{r: contextReader{ctx, r}, f: f, hash: manifest.NewHash(digest.Canonical.FromString(""))}
	res, err := unpack.Run(ctx, i.p.o.UnpackCommand, target, in, i.p.o.Limits)
	if err != nil {
		return l, err
	}
	if _, err := io.Copy(io.Discard, in); err != nil { // what is behind the archive's end
		return l, err
	}
	for _, w := range res.Warnings {
		i.p.log.Warn("unpacked with a deviation", log.String("digest", string(res.DiffID)), log.String("deviation", w))
	}
	l.DiffID = res.DiffID
	l.Blob = v1.Descriptor{MediaType: layerType(in.head), Digest: manifest.Sum(digest.Canonical.FromString(""), in.hash), Size: in.n}
	i.progress.done(l.Blob, containerizer.PhaseComplete)
	return l, i.commit(ctx, stage, f, l, res)
}

// commit makes layer and blob visible, under the lease.
func (i *importing) commit(ctx context.Context, stage string, f *os.File, l store.ImageLayer, res *unpack.Result) error {
	name := store.LayerName(l.DiffID)
	if err := i.lease.Hold(ctx, []string{name}, []string{string(l.Blob.Digest)}); err != nil {
		return err
	}
	lock, err := i.p.store.LockLayer(ctx, name)
	if err != nil {
		return err
	}
	defer lock.Release()
	if err := i.p.store.CommitBlob(f.Name(), l.Blob.Digest); err != nil {
		return err
	}
	if _, err := i.p.store.Layer(name); err == nil {
		return nil // the same files were here
	}
	if err := i.p.store.DropLayer(ctx, name); err != nil {
		return err
	}
	return i.p.store.CommitLayer(stage, &store.Layer{Name: name, Blob: l.Blob.Digest, Content: *res})
}

// documents are the configuration and manifest of the new image.
func (i *importing) documents(l store.ImageLayer) (*resolved, error) {
	r := &resolved{documents: map[digest.Digest][]byte{}}
	r.config = &v1.Image{
		Created: &i.now, Platform: i.platform, Config: i.config,
		RootFS:  v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{l.DiffID}},
		History: []v1.History{{Created: &i.now, CreatedBy: "berth import", Comment: i.message}},
	}
	config, err := r.add(v1.MediaTypeImageConfig, r.config)
	if err != nil {
		return nil, err
	}
	r.manifest = &v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, Config: config, Layers: []v1.Descriptor{l.Blob},
	}
	if r.desc, err = r.add(v1.MediaTypeImageManifest, r.manifest); err != nil {
		return nil, err
	}
	r.target = r.desc
	return r, nil
}

func (r *resolved) add(mediaType string, v any) (v1.Descriptor, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("encode %s: %w", mediaType, err)
	}
	d := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	r.documents[d.Digest] = raw
	return d, nil
}

// archived keeps and hashes an archive while it is read.
type archived struct {
	r    io.Reader
	f    *os.File
	hash hash.Hash
	n    int64
	head []byte
}

func (a *archived) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	if missing := 4 - len(a.head); missing > 0 {
		a.head = append(a.head, p[:min(n, missing)]...)
	}
	_, _ = a.hash.Write(p[:n]) // never fails (hash.Hash)
	a.n += int64(n)
	if _, werr := a.f.Write(p[:n]); werr != nil {
		return 0, fmt.Errorf("keep the archive: %w", class(werr))
	}
	return n, err
}

// layerType is the media type of a layer that begins with head.
func layerType(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return v1.MediaTypeImageLayerGzip
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return v1.MediaTypeImageLayerZstd
	}
	return v1.MediaTypeImageLayer
}
