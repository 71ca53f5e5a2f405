package cri

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-dev/berth/containerizer"
)

// batch is how many items of a streamed list go in a message.
const batch = 1000

// ListPodSandbox lists pod sandboxes.
func (s *runtimeService) ListPodSandbox(ctx context.Context, r *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	list, err := s.sandboxes(ctx, r.GetFilter())
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ListPodSandboxResponse{Items: list}, nil
}

// StreamPodSandboxes is ListPodSandbox in parts.
func (s *runtimeService) StreamPodSandboxes(r *runtimeapi.StreamPodSandboxesRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamPodSandboxesResponse]) error {
	list, err := s.sandboxes(stream.Context(), r.GetFilter())
	return inBatches(list, err, func(part []*runtimeapi.PodSandbox) error {
		return stream.Send(&runtimeapi.StreamPodSandboxesResponse{PodSandboxes: part})
	})
}

// ListContainers lists the containers of pods.
func (s *runtimeService) ListContainers(ctx context.Context, r *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	list, err := s.containers(ctx, r.GetFilter())
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ListContainersResponse{Containers: list}, nil
}

// StreamContainers is ListContainers in parts.
func (s *runtimeService) StreamContainers(r *runtimeapi.StreamContainersRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamContainersResponse]) error {
	list, err := s.containers(stream.Context(), r.GetFilter())
	return inBatches(list, err, func(part []*runtimeapi.Container) error {
		return stream.Send(&runtimeapi.StreamContainersResponse{Containers: part})
	})
}

// inBatches sends list in parts, each item once.
func inBatches[T any](list []T, err error, send func([]T) error) error {
	for err == nil && len(list) > 0 {
		n := min(batch, len(list))
		err = send(list[:n])
		list = list[n:]
	}
	return err
}

func (s *Server) sandboxes(ctx context.Context, f *runtimeapi.PodSandboxFilter) ([]*runtimeapi.PodSandbox, error) {
	items, err := s.index.all(ctx, "")
	if err != nil {
		return nil, err
	}
	out := []*runtimeapi.PodSandbox{}
	for _, i := range items {
		if i.record.pod == nil || !visible(i.status) || !strings.HasPrefix(string(i.status.ID), f.GetId()) {
			continue
		}
		config, state := i.record.pod.GetConfig(), podState(i.status)
		if f.GetState() != nil && f.GetState().GetState() != state || !hasLabels(config.GetLabels(), f.GetLabelSelector()) {
			continue
		}
		out = append(out, &runtimeapi.PodSandbox{
			Id: string(i.status.ID), Metadata: config.GetMetadata(), State: state, CreatedAt: i.status.CreatedAt.UnixNano(),
			Labels: config.GetLabels(), Annotations: config.GetAnnotations(), RuntimeHandler: i.record.pod.GetRuntimeHandler(),
		})
	}
	return out, nil
}

func (s *Server) containers(ctx context.Context, f *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	items, err := s.index.all(ctx, "")
	if err != nil {
		return nil, err
	}
	out := []*runtimeapi.Container{}
	for _, i := range items {
		if i.record.container == nil || !visible(i.status) || !strings.HasPrefix(i.status.ID.Base(), f.GetId()) ||
			!strings.HasPrefix(string(i.status.ID.Root()), f.GetPodSandboxId()) {
			continue
		}
		config, state := i.record.container.GetConfig(), containerState(i.status)
		if f.GetState() != nil && f.GetState().GetState() != state || !hasLabels(config.GetLabels(), f.GetLabelSelector()) {
			continue
		}
		out = append(out, shownContainer(i, config, state))
	}
	return out, nil
}

func shownContainer(i item, config *runtimeapi.ContainerConfig, state runtimeapi.ContainerState) *runtimeapi.Container {
	return &runtimeapi.Container{
		Id: i.status.ID.Base(), PodSandboxId: string(i.status.ID.Root()), Metadata: config.GetMetadata(),
		Image:    &runtimeapi.ImageSpec{Image: config.GetImage().GetUserSpecifiedImage(), UserSpecifiedImage: config.GetImage().GetUserSpecifiedImage()},
		ImageRef: config.GetImage().GetImageRef(), ImageId: config.GetImage().GetImageRef(), State: state,
		CreatedAt: i.status.CreatedAt.UnixNano(), Labels: config.GetLabels(), Annotations: config.GetAnnotations(),
	}
}

func hasLabels(labels, wanted map[string]string) bool {
	for key, value := range wanted {
		if got, has := labels[key]; !has || got != value {
			return false
		}
	}
	return true
}

// alive says whether a container has something to be measured.
func alive(i item) bool {
	return i.status.State == containerizer.StateRunning || i.status.State == containerizer.StatePaused
}
