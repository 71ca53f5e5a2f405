package provisioner

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/provisioner/manifest"
	"github.com/berth-dev/berth/provisioner/store"
	"github.com/berth-dev/berth/provisioner/unpack"
)

// layers makes all layers of an image available, several at once.
func (p *Provisioner) layers(ctx context.Context, lease *store.Lease, origin containerizer.ImageOrigin, i *store.Image, progress *progress) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(p.o.Parallel)
	seen := map[digest.Digest]bool{}
	for _, l := range i.Layers {
		progress.waiting(l.Blob)
	}
	for _, l := range i.Layers {
		if seen[l.DiffID] {
			progress.done(l.Blob, "exists")
			continue
		}
		seen[l.DiffID] = true
		g.Go(func() error {
			if err := p.layer(ctx, lease, origin, l, progress); err != nil {
				return fmt.Errorf("layer %s: %w", l.Blob.Digest, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// layer makes one layer available. Whoever else makes it at this moment, in this
// or another process, is waited for.
func (p *Provisioner) layer(ctx context.Context, lease *store.Lease, origin containerizer.ImageOrigin, l store.ImageLayer, progress *progress) error {
	name := store.LayerName(l.DiffID)
	lock, err := p.store.LockLayer(ctx, name)
	if err != nil {
		return err
	}
	defer lock.Release()
	switch _, err := p.store.Layer(name); {
	case err == nil && p.store.HasBlob(l.Blob.Digest, l.Blob.Size):
		progress.done(l.Blob, "exists")
		return nil
	case err == nil:
		for {
			err := p.blobOnly(ctx, lease, origin, l, progress)
			if !doubted(origin, l.Blob, err) {
				return err
			}
		}
	case !errors.Is(err, containerizer.ErrNotFound):
		p.log.Warn("layer replaced", log.String("digest", string(l.DiffID)), log.Error(err))
	}
	if err := p.store.DropLayer(name); err != nil {
		return err
	}
	if p.store.HasBlob(l.Blob.Digest, l.Blob.Size) {
		err := p.makeLayer(ctx, lease, p.kept(l.Blob), nil, l, progress)
		if err == nil || !errors.Is(err, containerizer.ErrDataCorrupt) {
			return err
		}
		p.log.Warn("kept blob is broken and fetched again", log.String("digest", string(l.Blob.Digest)), log.Error(err))
	}
	for {
		err := p.fetchLayer(ctx, lease, origin, l, progress)
		if !doubted(origin, l.Blob, err) {
			return err
		}
		p.log.Warn("layer is fetched from another source", log.String("digest", string(l.Blob.Digest)), log.Error(err))
	}
}

// doubted says whether err is a source's that sent something else than d, and
// there is another source.
func doubted(origin containerizer.ImageOrigin, d v1.Descriptor, err error) bool {
	doubter, ok := origin.(containerizer.Doubter)
	return ok && errors.Is(err, containerizer.ErrDataCorrupt) && doubter.Doubt(d)
}

// kept opens a blob of the store.
func (p *Provisioner) kept(d v1.Descriptor) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return os.Open(p.store.BlobPath(d.Digest)) }
}

func (p *Provisioner) fetchLayer(ctx context.Context, lease *store.Lease, origin containerizer.ImageOrigin, l store.ImageLayer, progress *progress) error {
	blob, err := lease.StageFile()
	if err != nil {
		return err
	}
	defer func() { _ = blob.Close() }() // a failed write was reported by the copy
	open := func() (io.ReadCloser, error) { return origin.Open(ctx, l.Blob) }
	return p.makeLayer(ctx, lease, open, blob, l, progress)
}

// makeLayer runs one stream through both digests into a layer directory. The
// blob goes into the file keep as well, if it is given.
func (p *Provisioner) makeLayer(ctx context.Context, lease *store.Lease, open func() (io.ReadCloser, error), keep *os.File, l store.ImageLayer, progress *progress) error {
	stage, err := lease.Stage()
	if err != nil {
		return err
	}
	target, err := makeTarget(stage)
	if err != nil {
		return err
	}
	defer func() { _ = target.Close() }()
	src, err := open()
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	v := &verifier{r: src, d: l.Blob, hash: manifest.NewHash(l.Blob.Digest), progress: progress}
	if keep != nil {
		v.keep = keep
	}
	res, err := unpack.Run(ctx, p.o.UnpackCommand, target, v, p.o.Limits)
	if err != nil {
		return v.blame(err)
	}
	if err := v.finish(); err != nil {
		return err
	}
	if res.DiffID != l.DiffID {
		return fmt.Errorf("its content has the diffID %s, the configuration says %s: %w", res.DiffID, l.DiffID, containerizer.ErrDataCorrupt)
	}
	for _, w := range res.Warnings {
		p.log.Warn("unpacked with a deviation", log.String("digest", string(l.DiffID)), log.String("deviation", w))
	}
	if keep != nil {
		if err := p.store.CommitBlob(keep.Name(), l.Blob.Digest); err != nil {
			return err
		}
	}
	if err := p.store.CommitLayer(stage, &store.Layer{Name: store.LayerName(l.DiffID), Blob: l.Blob.Digest, Content: *res}); err != nil {
		return err
	}
	progress.done(l.Blob, "complete")
	return nil
}

func makeTarget(stage string) (*os.File, error) {
	path := filepath.Join(stage, "fs")
	if err := os.Mkdir(path, 0o755); err != nil { //nolint:gosec // below a directory of mode 0700; it is a container's root
		return nil, class(err)
	}
	if err := chmod(path, 0o755); err != nil { // whatever the umask says
		return nil, err
	}
	return os.Open(path)
}

// blobOnly fetches a blob whose layer is there, made from another compression
// of it.
func (p *Provisioner) blobOnly(ctx context.Context, lease *store.Lease, origin containerizer.ImageOrigin, l store.ImageLayer, progress *progress) error {
	keep, err := lease.StageFile()
	if err != nil {
		return err
	}
	defer func() { _ = keep.Close() }()
	src, err := origin.Open(ctx, l.Blob)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	v := &verifier{r: src, d: l.Blob, hash: manifest.NewHash(l.Blob.Digest), progress: progress, keep: keep}
	if _, err := io.Copy(io.Discard, v); err != nil {
		return err
	}
	if err := v.finish(); err != nil {
		return err
	}
	if err := p.store.CommitBlob(keep.Name(), l.Blob.Digest); err != nil {
		return err
	}
	progress.done(l.Blob, "complete")
	return nil
}

// verifier hashes a blob on its way, keeps a copy, and tells of the progress.
type verifier struct {
	r        io.Reader
	d        v1.Descriptor
	hash     hash.Hash
	keep     io.Writer
	progress *progress
	n        int64
	ended    bool
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.ended = errors.Is(err, io.EOF)
	if n == 0 {
		return 0, err
	}
	if err := v.take(p[:n]); err != nil {
		return 0, err
	}
	return n, err
}

// take accounts for the next bytes of the blob.
func (v *verifier) take(p []byte) error {
	_, _ = v.hash.Write(p) // never fails (hash.Hash)
	if v.keep != nil {
		if _, err := v.keep.Write(p); err != nil {
			return fmt.Errorf("keep the blob: %w", class(err))
		}
	}
	v.n += int64(len(p))
	if v.d.Size > 0 && v.n > v.d.Size {
		return fmt.Errorf("more than the %d bytes of the manifest came: %w", v.d.Size, containerizer.ErrDataCorrupt)
	}
	v.progress.bytes(v.d, v.n)
	return nil
}

// finish checks that exactly the blob came.
func (v *verifier) finish() error {
	if !v.ended {
		if _, err := io.Copy(io.Discard, v); err != nil {
			return err
		}
	}
	if v.d.Size > 0 && v.n != v.d.Size {
		return fmt.Errorf("%d bytes came, the manifest says %d: %w", v.n, v.d.Size, containerizer.ErrDataCorrupt)
	}
	if got := manifest.Sum(v.d.Digest, v.hash); got != v.d.Digest {
		return fmt.Errorf("the content has the digest %s: %w", got, containerizer.ErrDataCorrupt)
	}
	return nil
}

// blame finds out whether an archive that could not be unpacked is the fault of
// who sent it: then its digest does not match.
func (v *verifier) blame(err error) error {
	if !errors.Is(err, containerizer.ErrDataCorrupt) && !errors.Is(err, containerizer.ErrInvalid) {
		return err
	}
	v.keep = nil
	if ferr := v.finish(); errors.Is(ferr, containerizer.ErrDataCorrupt) {
		return ferr
	}
	return err
}
