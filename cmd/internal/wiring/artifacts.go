package wiring

import (
	"context"
	"fmt"

	"github.com/berth-dev/berth/containerizer"
)

// Artifacts returns the fetcher of artifacts.
func (n *Node) Artifacts(context.Context) (containerizer.Artifacts, error) {
	if n.parts.Artifacts == nil {
		return nil, fmt.Errorf("this program fetches no artifacts: %w", containerizer.ErrUnsupported)
	}
	var err error
	if n.artifacts == nil {
		n.artifacts, err = n.parts.Artifacts(n.cfg)
	}
	return n.artifacts, err
}

// artifactFetcher is the engine's; nil where there is none.
func (n *Node) artifactFetcher(ctx context.Context) (containerizer.ArtifactFetcher, error) {
	if n.parts.Artifacts == nil {
		return nil, nil
	}
	return n.Artifacts(ctx)
}

// noArtifacts leaves the sandbox empty.
type noArtifacts struct{}

// Fetch implements [containerizer.ArtifactFetcher].
func (noArtifacts) Fetch(context.Context, string, []containerizer.Artifact, containerizer.FetchOptions) ([]containerizer.FetchedArtifact, error) {
	return nil, nil
}
