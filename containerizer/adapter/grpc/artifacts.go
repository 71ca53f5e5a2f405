package grpc

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/wire"
	berthv1 "github.com/berth-dev/berth/proto/berth/v1"
)

// artifacts is ArtifactsService.
type artifacts struct {
	berthv1.UnsafeArtifactsServiceServer // none of its methods may be missing here

	fetcher containerizer.Artifacts
}

// Fetch implements [berthv1.ArtifactsServiceServer].
func (s *artifacts) Fetch(r *berthv1.FetchRequest, stream grpc.ServerStreamingServer[berthv1.FetchResponse]) error {
	if !filepath.IsAbs(r.GetDirectory()) {
		return fmt.Errorf("directory %.200q is not an absolute path: %w", r.GetDirectory(), containerizer.ErrInvalid)
	}
	list := make([]containerizer.Artifact, len(r.GetArtifacts()))
	for i, m := range r.GetArtifacts() {
		if err := wire.Decode(&list[i], m); err != nil {
			return fmt.Errorf("artifact %d: %w", i, err)
		}
	}
	o := containerizer.FetchOptions{Progress: func(p containerizer.ArtifactProgress) {
		m := &berthv1.ArtifactProgress{}
		if wire.Encode(m, &p) == nil {
			_ = stream.Send(&berthv1.FetchResponse{Progress: m}) // who does not listen gets the files all the same
		}
	}}
	if owner := r.GetOwner(); owner != nil {
		o.Owner = &containerizer.Owner{UID: owner.GetUid(), GID: owner.GetGid()}
	}
	fetched, err := s.fetcher.Fetch(stream.Context(), filepath.Clean(r.GetDirectory()), list, o)
	if err != nil {
		return err
	}
	response := &berthv1.FetchResponse{}
	for i := range fetched {
		m := &berthv1.FetchedArtifact{}
		if err := wire.Encode(m, &fetched[i]); err != nil {
			return err
		}
		response.Artifacts = append(response.Artifacts, m)
	}
	return stream.Send(response)
}

// CacheUsage implements [berthv1.ArtifactsServiceServer].
func (s *artifacts) CacheUsage(ctx context.Context, _ *berthv1.CacheUsageRequest) (*berthv1.CacheUsageResponse, error) {
	return answer(&berthv1.CacheUsageResponse{}, func() (*containerizer.ArtifactCacheUsage, error) { return s.fetcher.CacheUsage(ctx) })
}

// PruneCache implements [berthv1.ArtifactsServiceServer].
func (s *artifacts) PruneCache(ctx context.Context, r *berthv1.PruneCacheRequest) (*berthv1.PruneCacheResponse, error) {
	const most = int64(1<<63-1) / int64(time.Second)
	seconds := r.GetUnusedSeconds()
	if seconds < 0 || seconds > most {
		return nil, fmt.Errorf("%d seconds are out of range: %w", seconds, containerizer.ErrInvalid)
	}
	n, err := s.fetcher.PruneCache(ctx, time.Duration(seconds)*time.Second)
	return &berthv1.PruneCacheResponse{ReclaimedBytes: n}, err
}
