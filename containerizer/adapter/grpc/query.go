package grpc

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/wire"
	berthv1 "github.com/berth-dev/berth/proto/berth/v1"
)

// Get implements [berthv1.ContainersServiceServer].
func (s *containers) Get(ctx context.Context, r *berthv1.GetRequest) (*berthv1.GetResponse, error) {
	response := &berthv1.GetResponse{Container: &berthv1.Container{}}
	return response, on(r, func(id containerizer.ContainerID) error {
		status, err := s.engine.Status(ctx, id)
		if err != nil {
			return err
		}
		return wire.Encode(response.GetContainer(), status)
	})
}

// Resolve implements [berthv1.ContainersServiceServer].
func (s *containers) Resolve(ctx context.Context, r *berthv1.ResolveRequest) (*berthv1.ResolveResponse, error) {
	id, err := s.engine.ResolveID(ctx, r.GetNameOrId())
	return &berthv1.ResolveResponse{Id: id.String()}, err
}

// Usage implements [berthv1.ContainersServiceServer].
func (s *containers) Usage(ctx context.Context, r *berthv1.UsageRequest) (*berthv1.UsageResponse, error) {
	response := &berthv1.UsageResponse{Usage: &berthv1.Usage{}}
	return response, on(r, func(id containerizer.ContainerID) error {
		usage, err := s.engine.Usage(ctx, id)
		if err != nil {
			return err
		}
		return wire.Encode(response.GetUsage(), usage)
	})
}

// Processes implements [berthv1.ContainersServiceServer].
func (s *containers) Processes(ctx context.Context, r *berthv1.ProcessesRequest) (*berthv1.ProcessesResponse, error) {
	response := &berthv1.ProcessesResponse{}
	return response, on(r, func(id containerizer.ContainerID) error {
		pids, err := s.engine.Processes(ctx, id)
		for _, pid := range pids {
			response.Pids = append(response.Pids, int64(pid))
		}
		return err
	})
}

// Events implements [berthv1.ContainersServiceServer].
func (s *containers) Events(r *berthv1.EventsRequest, stream grpc.ServerStreamingServer[berthv1.EventsResponse]) error {
	events, err := s.engine.Events(stream.Context(), r.GetAfter())
	if err != nil {
		return err
	}
	if err := stream.Send(&berthv1.EventsResponse{}); err != nil {
		return err
	}
	for event := range events {
		response := &berthv1.EventsResponse{Event: &berthv1.Event{}}
		if err := wire.Encode(response.GetEvent(), &event); err != nil {
			return err
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
	if err := context.Cause(stream.Context()); err != nil {
		return err
	}
	return fmt.Errorf("the reader is slower than what is remembered, or the daemon ends; go on from the last sequence number: %w", containerizer.ErrUnavailable)
}
