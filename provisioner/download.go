package provisioner

import (
	"context"
	"errors"
	"io"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/provisioner/store"
)

// resumeBytes is the least size of a blob whose download can be carried on by a
// later pull. For a smaller one a request costs more than its bytes.
const resumeBytes = 4 << 20

// download is the file that a blob goes into while it streams. A nil download
// takes everything and keeps nothing.
type download struct {
	w      io.Writer
	skip   int64 // bytes that are in the file already
	rename func() error
}

// take keeps the next bytes of the blob.
func (d *download) take(p []byte) error {
	if d == nil {
		return nil
	}
	if n := min(d.skip, int64(len(p))); n > 0 {
		d.skip -= n
		p = p[n:]
	}
	if len(p) == 0 {
		return nil
	}
	_, err := d.w.Write(p)
	return err
}

// commit gives the verified blob its name.
func (d *download) commit() error {
	if d == nil {
		return nil
	}
	return d.rename()
}

// download runs use with the stream of a blob and the file to keep it in. Where the
// origin can begin in the middle, what an earlier pull left is read from disk first.
//
// All of it goes through the hash again, and no state of the hash is saved: the
// bytes have to be inflated once more in any case, beside which hashing is cheap,
// and nobody vouches for a file that was written before the node went down.
//
// A source that sends something else is left, where there is another one.
func (m *making) download(ctx context.Context, l store.ImageLayer, use func(opener, *download) error) error {
	for {
		err := m.downloadOnce(ctx, l, use)
		if !doubted(m.origin, l.Blob, err) {
			return err
		}
		m.p.log.Warn("layer is fetched from another source", log.String("digest", string(l.Blob.Digest)), log.Error(err))
	}
}

func (m *making) downloadOnce(ctx context.Context, l store.ImageLayer, use func(opener, *download) error) error {
	ranges, ok := m.origin.(containerizer.RangeOpener)
	if ok && l.Blob.Size >= resumeBytes {
		part, free, err := m.p.store.Partial(l.Blob.Digest, l.Blob.Size)
		if err != nil {
			return err
		}
		if free {
			return m.resume(ctx, ranges, part, l, use)
		}
	}
	f, err := m.lease.StageFile()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // a failed write was reported when it was made
	open := func() (io.ReadCloser, error) { return m.origin.Open(ctx, l.Blob) }
	return use(open, &download{w: f, rename: func() error { return m.p.store.CommitBlob(f.Name(), l.Blob.Digest) }})
}

// resume is download with a file that outlives the pull.
func (m *making) resume(ctx context.Context, origin containerizer.RangeOpener, part *store.Partial, l store.ImageLayer, use func(opener, *download) error) error {
	open := func() (io.ReadCloser, error) {
		if part.Have() == 0 {
			return m.origin.Open(ctx, l.Blob)
		}
		m.p.log.Info("download carried on", log.String("digest", string(l.Blob.Digest)), log.Int("bytes", int(part.Have())))
		return &continued{Reader: part.Old(), rest: func() (io.ReadCloser, error) { return origin.OpenAt(ctx, l.Blob, part.Have()) }}, nil
	}
	try := func() error { return use(open, &download{w: part, skip: part.Have(), rename: part.Commit}) }
	err := try()
	if part.Have() > 0 && (errors.Is(err, containerizer.ErrDataCorrupt) || errors.Is(err, containerizer.ErrUnsupported)) && ctx.Err() == nil {
		// What was left is of no use, or can only be had from the start.
		m.p.log.Warn("download begun again", log.String("digest", string(l.Blob.Digest)), log.Error(err))
		if err := part.Reset(); err != nil {
			return errors.Join(err, part.Drop())
		}
		err = try()
	}
	// Another layer of the pull may have found the disk full.
	full := errors.Is(err, containerizer.ErrResourceExhausted) || errors.Is(context.Cause(ctx), containerizer.ErrResourceExhausted)
	if err == nil || full || errors.Is(err, containerizer.ErrDataCorrupt) || errors.Is(err, containerizer.ErrInvalid) {
		return errors.Join(err, part.Drop()) // without an error it has another name
	}
	return errors.Join(err, part.Release())
}

// continued is what is there, and then the rest from where it comes.
type continued struct {
	io.Reader
	rest func() (io.ReadCloser, error)
	body io.ReadCloser
}

func (c *continued) Read(p []byte) (int, error) {
	if c.body != nil {
		return c.body.Read(p)
	}
	n, err := c.Reader.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	if c.body, err = c.rest(); err != nil {
		return n, err
	}
	return n, nil
}

// Source is that of the rest.
func (c *continued) Source() (host string, retries int) {
	if s, ok := c.body.(containerizer.BlobSource); ok {
		return s.Source()
	}
	return "", 0
}

// Close ends the download.
func (c *continued) Close() error {
	if c.body == nil {
		return nil
	}
	return c.body.Close()
}
