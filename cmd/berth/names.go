package main

import (
	"context"

	"github.com/berth-dev/berth/cmd/berth/cli"
	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/reference"
)

// names knows the names of images, and fetches none.
type names struct{}

func newNames(config.Config) containerizer.Fetcher { return names{} }

// Name returns the canonical name of a user's reference.
func (names) Name(ref string) (name string, local bool, err error) {
	r, err := reference.Parse(ref)
	if err != nil {
		return "", false, err
	}
	return r.String(), r.IsPath(), nil
}

// Connect leaves it to berth-images.
func (names) Connect(context.Context, string) (containerizer.ImageOrigin, error) {
	return nil, cli.ErrElsewhere
}

// Contents leaves it to berth-images.
func (names) Contents(context.Context, string) ([]containerizer.ArchivedImage, error) {
	return nil, cli.ErrElsewhere
}
