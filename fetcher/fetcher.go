package fetcher

import (
	"context"
	"fmt"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/archive"
	"github.com/berth-dev/berth/fetcher/reference"
	"github.com/berth-dev/berth/fetcher/registry"
)

var _ containerizer.Fetcher = (*Fetcher)(nil)

// Options of a fetcher. The zero value works.
type Options struct {
	// Registry options.
	Registry registry.Options
	// TempDir is where a compressed archive is expanded; "" is os.TempDir().
	TempDir string
}

// Fetcher fetches over all transports.
type Fetcher struct {
	registry *registry.Client
	tempDir  string
}

// New returns a fetcher. It does no I/O.
func New(o Options) *Fetcher {
	return &Fetcher{registry: registry.New(o.Registry), tempDir: o.TempDir}
}

// Name returns the canonical name of a user's reference.
func (*Fetcher) Name(ref string) (name string, local bool, err error) {
	return Name(ref)
}

// Name is Fetcher.Name for programs without a fetcher.
func Name(ref string) (name string, local bool, err error) {
	r, err := reference.Parse(ref)
	if err != nil {
		return "", false, err
	}
	return r.String(), r.IsPath(), nil
}

// Connect prepares to fetch the image called name.
func (f *Fetcher) Connect(ctx context.Context, name string) (containerizer.ImageOrigin, error) {
	r, err := reference.Parse(name)
	if err != nil {
		return nil, err
	}
	switch r.Transport {
	case reference.Docker:
		return f.registry.Connect(ctx, r)
	case reference.OCI, reference.OCIArchive, reference.DockerArchive:
		return archive.Connect(ctx, r, f.tempDir)
	}
	return nil, fmt.Errorf("transport %q: %w", r.Transport, containerizer.ErrUnsupported)
}

// Contents lists the images in an archive file.
func (f *Fetcher) Contents(ctx context.Context, path string) ([]containerizer.ArchivedImage, error) {
	return archive.Contents(ctx, path, f.tempDir)
}
