package fetcher

import (
	"context"
	"fmt"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/archive"
	"github.com/berth-dev/berth/fetcher/policy"
	"github.com/berth-dev/berth/fetcher/reference"
	"github.com/berth-dev/berth/fetcher/registry"
)

var (
	_ containerizer.Fetcher  = (*Fetcher)(nil)
	_ containerizer.Searcher = (*Fetcher)(nil)
)

// Options of a fetcher. The zero value works.
type Options struct {
	// Registry options.
	Registry registry.Options
	// Policy says what may be pulled, for all who pull.
	Policy policy.Policy
	// TempDir is where a compressed archive is expanded; "" is os.TempDir().
	TempDir string
}

// Fetcher fetches over all transports.
type Fetcher struct {
	registry *registry.Client
	policy   policy.Policy
	tempDir  string
}

// New returns a fetcher. It does no I/O.
func New(o Options) *Fetcher {
	return &Fetcher{registry: registry.New(o.Registry), policy: o.Policy, tempDir: o.TempDir}
}

// Name returns the canonical name of a user's reference.
func (f *Fetcher) Name(ref string) (name string, local bool, err error) {
	names, local, err := f.Search(ref)
	if err != nil {
		return "", false, err
	}
	return names[0], local, nil
}

// Search returns all names that a user's reference may mean.
func (f *Fetcher) Search(ref string) (names []string, local bool, err error) {
	return f.policy.Search(ref)
}

// Connect prepares to fetch the image called name.
func (f *Fetcher) Connect(ctx context.Context, name string, auth *containerizer.RegistryAuth) (containerizer.ImageOrigin, error) {
	r, err := reference.Parse(name)
	if err != nil {
		return nil, err
	}
	switch r.Transport {
	case reference.Docker:
		if err := f.policy.Check(r); err != nil {
			return nil, err
		}
		return f.registry.Connect(ctx, r, auth)
	case reference.OCI, reference.OCIArchive, reference.DockerArchive:
		return archive.Connect(ctx, r, f.tempDir)
	}
	return nil, fmt.Errorf("transport %q: %w", r.Transport, containerizer.ErrUnsupported)
}

// Contents lists the images in an archive file.
func (f *Fetcher) Contents(ctx context.Context, path string) ([]containerizer.ArchivedImage, error) {
	return archive.Contents(ctx, path, f.tempDir)
}
