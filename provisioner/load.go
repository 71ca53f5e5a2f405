package provisioner

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// Load reads an archive and makes all its images available.
func (p *Provisioner) Load(ctx context.Context, r io.Reader, o containerizer.PullOptions) (_ []containerizer.Image, err error) {
	if err := p.store.Init(); err != nil {
		return nil, err
	}
	defer func() { p.giveBack(ctx, err) }()
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
		return nil, &archiveError{err: err, staged: f.Name(), archive: nameOf(r)}
	}
	var out []containerizer.Image
	for _, c := range contents {
		i, err := p.loadOne(ctx, c, strings.Replace(c.Reference, f.Name(), pathOf(r), 1), o)
		if err != nil {
			return out, &archiveError{err: err, staged: f.Name(), archive: nameOf(r)}
		}
		out = append(out, *i)
	}
	return out, nil
}

func (p *Provisioner) loadOne(ctx context.Context, c containerizer.ArchivedImage, origin string, o containerizer.PullOptions) (*containerizer.Image, error) {
	i, err := p.pull(ctx, containerizer.ImageSource{}, c.Reference, &loaded{names: c.Names, origin: origin}, newProgress(o.Progress))
	if err != nil {
		return nil, fmt.Errorf("load from the archive: %w", err)
	}
	image, err := p.Inspect(ctx, string(i.Manifest.Digest))
	if err != nil || len(c.Names) == 0 {
		return image, err
	}
	image.References = slices.DeleteFunc(slices.Clone(image.References), func(name string) bool { return !slices.Contains(c.Names, name) })
	return image, nil
}

// nameOf is what the user calls the archive that is read from r.
func nameOf(r io.Reader) string {
	if f, ok := r.(interface{ Name() string }); ok {
		return f.Name()
	}
	return "archive"
}

// pathOf is the path of the archive that is read from r, "" if it has none.
func pathOf(r io.Reader) string {
	f, ok := r.(*os.File)
	if !ok {
		return ""
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	path, err := filepath.Abs(f.Name())
	if err != nil || f.Name() == os.Stdin.Name() {
		return ""
	}
	return path
}

// archiveError is an error about the copy of an archive in stage, which nobody but
// the store knows. Its message is about the archive.
type archiveError struct {
	err             error
	staged, archive string
}

func (e *archiveError) Error() string {
	return strings.ReplaceAll(e.err.Error(), e.staged, e.archive)
}

// Unwrap returns the error as it was.
func (e *archiveError) Unwrap() error { return e.err }

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
