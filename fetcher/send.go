package fetcher

import (
	"context"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/archive"
	"github.com/berth-dev/berth/fetcher/reference"
)

var _ containerizer.ImageSender = (*Fetcher)(nil)

// Destination prepares to write the image that a user's reference means.
func (f *Fetcher) Destination(ctx context.Context, ref string) (containerizer.ImageDestination, error) {
	name, _, err := f.Name(ref) // what must not be pulled from is not pushed to either
	if err != nil {
		return nil, err
	}
	r, err := reference.Parse(name)
	if err != nil {
		return nil, err
	}
	if r.Transport == reference.Docker {
		d, err := f.registry.Push(ctx, r)
		if err != nil { // a nil *Destination must not become a non-nil interface
			return nil, err
		}
		return d, nil
	}
	return archive.Create(r)
}
