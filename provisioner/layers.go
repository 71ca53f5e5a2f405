package provisioner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/provisioner/manifest"
	"github.com/berth-dev/berth/provisioner/store"
	"github.com/berth-dev/berth/provisioner/unpack"
)

// layers makes all layers of an image available, several at once and the largest
// first: the last one to end is then a small one.
func (p *Provisioner) layers(ctx context.Context, lease *store.Lease, origin containerizer.ImageOrigin, i *store.Image, progress *progress) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(p.o.Parallel)
	seen := map[digest.Digest]bool{}
	var todo []store.ImageLayer
	for _, l := range i.Layers {
		progress.waiting(l.Blob)
		if seen[l.DiffID] {
			progress.done(l.Blob, containerizer.PhaseExists)
			continue
		}
		seen[l.DiffID] = true
		todo = append(todo, l)
	}
	slices.SortStableFunc(todo, func(a, b store.ImageLayer) int { return cmp.Compare(b.Blob.Size, a.Blob.Size) })
	m := &making{p: p, lease: lease, origin: origin, progress: progress, limits: p.o.Limits}
	m.limits.Processors = p.processors(todo)
	for _, l := range todo {
		g.Go(func() error {
			if err := m.layer(ctx, l); err != nil {
				return fmt.Errorf("layer %s: %w", l.Blob.Digest, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// processors are those of one child. Where several children keep all of them busy,
// each does better with its share: its threads then need not wake each other.
func (p *Provisioner) processors(todo []store.ImageLayer) int {
	missing := 0
	for _, l := range todo {
		if !p.store.HasLayer(store.LayerName(l.DiffID)) {
			missing++
		}
	}
	if missing < 2 {
		return 0
	}
	return max(1, runtime.GOMAXPROCS(0)/min(missing, p.o.Parallel))
}

// making is the part of a pull that makes layers.
type making struct {
	p        *Provisioner
	lease    *store.Lease
	origin   containerizer.ImageOrigin
	progress *progress
	limits   unpack.Limits
}

// layer makes one layer available. Whoever else makes it at this moment, in this
// or another process, is waited for.
func (m *making) layer(ctx context.Context, l store.ImageLayer) error {
	p := m.p
	name := store.LayerName(l.DiffID)
	lock, err := p.store.LockLayer(ctx, name)
	if err != nil {
		return err
	}
	defer lock.Release()
	_, err = p.store.Layer(name)
	if err == nil && p.store.HasBlob(l.Blob.Digest, l.Blob.Size) {
		m.progress.done(l.Blob, containerizer.PhaseExists)
		return nil
	}
	// Only now: who waits for others needs nothing, and who makes a layer waits for
	// nobody.
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err == nil {
		return m.blobOnly(ctx, l)
	}
	if !errors.Is(err, containerizer.ErrNotFound) {
		p.log.Warn("layer replaced", log.String("digest", string(l.DiffID)), log.Error(err))
	}
	if err := p.store.DropLayer(ctx, name); err != nil {
		return err
	}
	if p.store.HasBlob(l.Blob.Digest, l.Blob.Size) {
		err := m.make(ctx, m.kept(l.Blob), nil, l)
		if err == nil || !errors.Is(err, containerizer.ErrDataCorrupt) {
			return err
		}
		p.log.Warn("kept blob is broken and fetched again", log.String("digest", string(l.Blob.Digest)), log.Error(err))
	}
	return m.download(ctx, l, func(open opener, keep *download) error { return m.make(ctx, open, keep, l) })
}

// doubted says whether err is a source's that sent something else than d, and
// there is another source.
func doubted(origin containerizer.ImageOrigin, d v1.Descriptor, err error) bool {
	doubter, ok := origin.(containerizer.Doubter)
	return ok && errors.Is(err, containerizer.ErrDataCorrupt) && doubter.Doubt(d)
}

// opener opens a blob at its start.
type opener func() (io.ReadCloser, error)

// kept opens a blob of the store.
func (m *making) kept(d v1.Descriptor) opener {
	return func() (io.ReadCloser, error) { return os.Open(m.p.store.BlobPath(d.Digest)) }
}

// make runs one stream through both digests into a layer directory. The blob goes
// into keep as well, if it is given.
func (m *making) make(ctx context.Context, open opener, keep *download, l store.ImageLayer) error {
	p := m.p
	stage, err := m.lease.Stage()
	if err != nil {
		return err
	}
	target, err := makeTarget(stage)
	if err != nil {
		return err
	}
	defer func() { _ = target.Close() }()
	child, err := unpack.Start(ctx, p.o.UnpackCommand, target, m.limits) // comes up while the blob is asked for
	if err != nil {
		return err
	}
	defer child.Close()
	src, err := open()
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	v := &verifier{r: src, d: l.Blob, hash: manifest.NewHash(l.Blob.Digest), progress: m.progress, keep: keep}
	res, err := child.Unpack(ctx, v)
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
	if err := keep.commit(); err != nil {
		return err
	}
	if err := p.store.CommitLayer(stage, &store.Layer{Name: store.LayerName(l.DiffID), Blob: l.Blob.Digest, Content: *res}); err != nil {
		return err
	}
	m.progress.done(l.Blob, containerizer.PhaseComplete)
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
func (m *making) blobOnly(ctx context.Context, l store.ImageLayer) error {
	return m.download(ctx, l, func(open opener, keep *download) error {
		src, err := open()
		if err != nil {
			return err
		}
		defer func() { _ = src.Close() }()
		v := &verifier{r: src, d: l.Blob, hash: manifest.NewHash(l.Blob.Digest), progress: m.progress, keep: keep}
		if _, err := io.Copy(io.Discard, v); err != nil {
			return err
		}
		if err := v.finish(); err != nil {
			return err
		}
		if err := keep.commit(); err != nil {
			return err
		}
		m.progress.done(l.Blob, containerizer.PhaseComplete)
		return nil
	})
}

// verifier hashes a blob on its way, keeps a copy, and tells of the progress.
type verifier struct {
	r        io.Reader
	d        v1.Descriptor
	hash     hash.Hash
	keep     *download // nil keeps nothing
	progress *progress
	phase    containerizer.Phase // while bytes flow; "" is downloading
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
	if err := v.keep.take(p); err != nil {
		return fmt.Errorf("keep the blob: %w", class(err))
	}
	v.n += int64(len(p))
	if v.d.Size > 0 && v.n > v.d.Size {
		return fmt.Errorf("more than the %d bytes of the manifest came: %w", v.d.Size, containerizer.ErrDataCorrupt)
	}
	phase := v.phase
	if phase == "" {
		phase = containerizer.PhaseDownloading
	}
	v.progress.bytes(v.d, phase, v.n, v.r)
	if v.n == v.d.Size && phase == containerizer.PhaseDownloading {
		v.progress.phase(v.d, containerizer.PhaseUnpacking, v.n)
	}
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
