package client

import (
	"context"
	"fmt"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/wire"
	berthv1 "github.com/berth-dev/berth/proto/berth/v1"
)

// Artifacts implements [containerizer.Artifacts]. Directories are the daemon's.
type Artifacts struct {
	rpc berthv1.ArtifactsServiceClient
}

var _ containerizer.Artifacts = (*Artifacts)(nil)

// Fetch implements [containerizer.ArtifactFetcher].
func (c *Artifacts) Fetch(ctx context.Context, dir string, list []containerizer.Artifact, o containerizer.FetchOptions) ([]containerizer.FetchedArtifact, error) {
	r := &berthv1.FetchRequest{Directory: dir}
	for i := range list {
		m := &berthv1.Artifact{}
		if err := wire.Encode(m, &list[i]); err != nil {
			return nil, fmt.Errorf("artifact %d: %w", i, err)
		}
		r.Artifacts = append(r.Artifacts, m)
	}
	if o.Owner != nil {
		r.Owner = &berthv1.Owner{Uid: o.Owner.UID, Gid: o.Owner.GID}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var fetched []containerizer.FetchedArtifact
	stream, err := c.rpc.Fetch(ctx, r)
	err = each(stream, err, func(m *berthv1.FetchResponse) (err error) {
		var progress containerizer.ArtifactProgress
		switch {
		case m.GetProgress() == nil:
			fetched, err = decodeFetched(m.GetArtifacts())
		case o.Progress != nil && wire.Decode(&progress, m.GetProgress()) == nil:
			o.Progress(progress)
		}
		return err
	})
	return fetched, err
}

func decodeFetched(list []*berthv1.FetchedArtifact) ([]containerizer.FetchedArtifact, error) {
	all := make([]containerizer.FetchedArtifact, len(list))
	for i, m := range list {
		if err := wire.Decode(&all[i], m); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// CacheUsage implements [containerizer.Artifacts].
func (c *Artifacts) CacheUsage(ctx context.Context) (*containerizer.ArtifactCacheUsage, error) {
	r, err := call(c.rpc.CacheUsage(ctx, &berthv1.CacheUsageRequest{}))
	if err != nil {
		return nil, err
	}
	return decoded(&containerizer.ArtifactCacheUsage{}, r)
}

// PruneCache implements [containerizer.Artifacts].
func (c *Artifacts) PruneCache(ctx context.Context, unused time.Duration) (int64, error) {
	r, err := call(c.rpc.PruneCache(ctx, &berthv1.PruneCacheRequest{UnusedSeconds: int64(unused / time.Second)}))
	return r.GetReclaimedBytes(), err
}
