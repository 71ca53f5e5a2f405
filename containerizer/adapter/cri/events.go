package cri

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-dev/berth/containerizer"
)

// GetContainerEvents sends what happens to pod sandboxes and containers from now on. A
// reader that is slower than what is remembered is dropped.
func (s *runtimeService) GetContainerEvents(_ *runtimeapi.GetEventsRequest, stream grpc.ServerStreamingServer[runtimeapi.ContainerEventResponse]) error {
	ctx := stream.Context()
	events, err := s.o.Engine.Events(ctx, 0)
	if err != nil {
		return err
	}
	// A destroyed container cannot be looked up: what is ours is remembered from before.
	ours := map[containerizer.ContainerID]bool{}
	items, err := s.index.all(ctx, "")
	if err != nil {
		return err
	}
	for _, i := range items {
		ours[i.status.ID] = true
	}
	for e := range events {
		r, err := s.eventOf(ctx, &e, ours)
		if err != nil {
			return err
		}
		if r == nil {
			continue
		}
		if err := stream.Send(r); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("the events are not remembered that this reader has not taken: %w", containerizer.ErrResourceExhausted)
}

// eventOf translates an event; nil for one that nobody asked for.
func (s *runtimeService) eventOf(ctx context.Context, e *containerizer.Event, ours map[containerizer.ContainerID]bool) (*runtimeapi.ContainerEventResponse, error) {
	r := &runtimeapi.ContainerEventResponse{ContainerId: e.ID.Base(), CreatedAt: e.At.UnixNano()}
	switch e.Type {
	case containerizer.EventCreated:
		r.ContainerEventType = runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT
	case containerizer.EventStarted:
		r.ContainerEventType = runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT
	case containerizer.EventExited:
		r.ContainerEventType = runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT
	case containerizer.EventDestroyed:
		r.ContainerEventType = runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT
	default:
		return nil, nil
	}
	pod, err := s.index.sandbox(ctx, string(e.ID.Root()))
	switch {
	case err == nil:
		ours[e.ID] = true
		r.PodSandboxStatus = podStatus(pod)
		if r.ContainersStatuses, err = s.statusesIn(ctx, pod.status.ID); err != nil {
			return nil, err
		}
	case !missing(err):
		return nil, err
	case !ours[e.ID]:
		return nil, nil
	}
	if e.Type == containerizer.EventDestroyed {
		delete(ours, e.ID)
	}
	return r, nil
}
