package provisioner

import (
	"context"
	"fmt"
	"io"

	"github.com/berth-dev/berth/containerizer"
)

// Load reads an archive and makes all its images available.
func (p *Provisioner) Load(ctx context.Context, r io.Reader, o containerizer.PullOptions) (_ []containerizer.Image, err error) {
	if err := p.store.Init(); err != nil {
		return nil, err
	}
	lease, err := p.store.NewLease(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if rerr := lease.Release(); err == nil {
			err = rerr
		}
	}()
	f, err := lease.StageFile()
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(f, contextReader{ctx, r})
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("read the archive: %w", class(err))
	}
	contents, err := p.fetcher.Contents(ctx, f.Name())
	if err != nil {
		return nil, err
	}
	var out []containerizer.Image
	for _, c := range contents {
		i, err := p.loadOne(ctx, c, o)
		if err != nil {
			return out, err
		}
		out = append(out, *i)
	}
	return out, nil
}

func (p *Provisioner) loadOne(ctx context.Context, c containerizer.ArchivedImage, o containerizer.PullOptions) (*containerizer.Image, error) {
	names := c.Names
	if names == nil {
		names = []string{} // it stays without a name, not with that of a file in stage
	}
	i, err := p.pull(ctx, containerizer.ImageSource{}, c.Reference, names, newProgress(o.Progress))
	if err != nil {
		return nil, fmt.Errorf("load from the archive: %w", err)
	}
	return p.Inspect(ctx, string(i.Manifest.Digest))
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context //nolint:containedctx // lives for one copy
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
