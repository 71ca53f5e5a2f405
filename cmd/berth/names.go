package main

import (
	"context"

	"github.com/berth-dev/berth/cmd/berth/cli"
	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/policy"
)

// names knows the names of images, and fetches none.
type names struct{ policy policy.Policy }

var _ containerizer.Searcher = (*names)(nil)

func newNames(cfg config.Config) containerizer.Fetcher {
	p, _ := cfg.Policy() // a mistake in it was found when the file was read
	return &names{p}
}

// Name returns the canonical name of a user's reference.
func (n *names) Name(ref string) (name string, local bool, err error) {
	all, local, err := n.Search(ref)
	if err != nil {
		return "", false, err
	}
	return all[0], local, nil
}

// Search returns all names that a user's reference may mean.
func (n *names) Search(ref string) (all []string, local bool, err error) { return n.policy.Search(ref) }

// Connect leaves it to berth-images.
func (*names) Connect(context.Context, string, *containerizer.RegistryAuth) (containerizer.ImageOrigin, error) {
	return nil, cli.ErrElsewhere
}

// Contents leaves it to berth-images.
func (*names) Contents(context.Context, string) ([]containerizer.ArchivedImage, error) {
	return nil, cli.ErrElsewhere
}
