package remote

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/client"
	references "github.com/berth-dev/berth/fetcher/reference"
)

// images is the daemon's store for references as a user of this process means them.
type images struct{ *client.Images }

// Pull implements [containerizer.Images].
func (i images) Pull(ctx context.Context, source containerizer.ImageSource, o containerizer.PullOptions) (*containerizer.Image, error) {
	source.Reference = here(source.Reference)
	return i.Images.Pull(ctx, source, o)
}

// Inspect implements [containerizer.Images].
func (i images) Inspect(ctx context.Context, nameOrDigest string) (*containerizer.Image, error) {
	return i.Images.Inspect(ctx, here(nameOrDigest))
}

// Tag implements [containerizer.Images].
func (i images) Tag(ctx context.Context, nameOrDigest, reference string) error {
	return i.Images.Tag(ctx, here(nameOrDigest), reference)
}

// Remove implements [containerizer.Images].
func (i images) Remove(ctx context.Context, nameOrDigest string, force bool) (*containerizer.PruneReport, error) {
	return i.Images.Remove(ctx, here(nameOrDigest), force)
}

// Push implements [containerizer.ImageMover].
func (i images) Push(ctx context.Context, nameOrDigest, target string, o containerizer.CopyOptions) (digest.Digest, error) {
	return i.Images.Push(ctx, here(nameOrDigest), here(target), o)
}

// Copy implements [containerizer.ImageMover].
func (i images) Copy(ctx context.Context, source, target string, o containerizer.CopyOptions) (digest.Digest, error) {
	return i.Images.Copy(ctx, here(source), here(target), o)
}

// engine is the daemon's engine, likewise.
type engine struct{ *client.Engine }

// Prepare implements [containerizer.Lifecycle].
func (e engine) Prepare(ctx context.Context, id containerizer.ContainerID, spec *containerizer.Spec) error {
	return e.Engine.Prepare(ctx, id, specHere(spec))
}

// Launch implements [containerizer.Lifecycle].
func (e engine) Launch(ctx context.Context, id containerizer.ContainerID, spec *containerizer.Spec, o containerizer.LaunchOptions) (containerizer.Session, error) {
	return e.Engine.Launch(ctx, id, specHere(spec), o)
}

func specHere(spec *containerizer.Spec) *containerizer.Spec {
	if spec == nil || spec.Image == nil {
		return spec
	}
	s, image := *spec, *spec.Image
	image.Reference = here(image.Reference)
	s.Image = &image
	return &s
}

// here is a reference whose path does not depend on the folder we are in. What cannot
// be read is the daemon's to refuse.
func here(reference string) string {
	r, err := references.Parse(reference)
	if err != nil || !r.IsPath() {
		return reference
	}
	return r.String()
}
