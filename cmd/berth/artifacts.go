package main

import (
	"context"
	"time"

	"github.com/berth-dev/berth/cmd/berth/cli"
	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/containerizer"
)

// artifacts leaves artifacts to berth-images: a container that is started again after
// a reboot may need some.
type artifacts struct{}

func newArtifacts(config.Config) (containerizer.Artifacts, error) { return artifacts{}, nil }

// Fetch implements [containerizer.ArtifactFetcher].
func (artifacts) Fetch(context.Context, string, []containerizer.Artifact, containerizer.FetchOptions) ([]containerizer.FetchedArtifact, error) {
	return nil, cli.ErrElsewhere
}

// CacheUsage implements [containerizer.Artifacts].
func (artifacts) CacheUsage(context.Context) (*containerizer.ArtifactCacheUsage, error) {
	return nil, cli.ErrElsewhere
}

// PruneCache implements [containerizer.Artifacts].
func (artifacts) PruneCache(context.Context, time.Duration) (int64, error) {
	return 0, cli.ErrElsewhere
}
