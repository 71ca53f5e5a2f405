package cri

import (
	"context"
	"fmt"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-dev/berth/containerizer"
)

// CreateContainer brings a container to the point where its process is about to execute
// the command, so that what is wrong with it is said here and not by StartContainer.
func (s *runtimeService) CreateContainer(ctx context.Context, r *runtimeapi.CreateContainerRequest) (*runtimeapi.CreateContainerResponse, error) {
	name := r.GetConfig().GetMetadata().GetName()
	pod, err := s.index.sandbox(ctx, r.GetPodSandboxId())
	if err != nil {
		return nil, fmt.Errorf("create container %q: %w", name, err)
	}
	if pod.status.State != containerizer.StateRunning {
		return nil, fmt.Errorf("create container %q: pod sandbox %q is not ready: %w", name, pod.status.ID, containerizer.ErrFailedPrecondition)
	}
	image, err := s.image(ctx, r.GetConfig().GetImage().GetImage())
	if err != nil {
		return nil, fmt.Errorf("create container %q: %w", name, err)
	}
	spec, err := s.containerSpec(ctx, pod, r.GetConfig(), image)
	if err != nil {
		return nil, fmt.Errorf("create container %q: %w", name, err)
	}
	key := containerKey(pod.status.ID, r.GetConfig().GetMetadata())
	id, err := s.index.choose(ctx, key, pod.status.ID)
	if err != nil {
		return nil, err
	}
	err = s.o.Engine.Prepare(ctx, id, spec)
	s.index.done(key, ctx.Err() != nil)
	if err != nil {
		return nil, err
	}
	s.users.note(ctx, s.o.Engine, id)
	return &runtimeapi.CreateContainerResponse{ContainerId: id.Base()}, nil
}

// StartContainer lets a created container execute its command. One whose command cannot
// be executed is exited afterwards.
func (s *runtimeService) StartContainer(ctx context.Context, r *runtimeapi.StartContainerRequest) (*runtimeapi.StartContainerResponse, error) {
	i, err := s.index.container(ctx, r.GetContainerId())
	if err != nil {
		return nil, err
	}
	if i.status.State != containerizer.StateCreated {
		return nil, fmt.Errorf("start container %q: it is %s, not created: %w", r.GetContainerId(), i.status.State, containerizer.ErrFailedPrecondition)
	}
	if _, err := s.o.Engine.Start(ctx, i.status.ID, containerizer.LaunchOptions{}); err != nil {
		return nil, err
	}
	return &runtimeapi.StartContainerResponse{}, nil
}

// StopContainer asks the process to end, and kills it after the time-out. Calls do not
// wait for each other: a later one with less patience has its way.
func (s *runtimeService) StopContainer(ctx context.Context, r *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	i, err := s.index.container(ctx, r.GetContainerId())
	if missing(err) {
		return &runtimeapi.StopContainerResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := s.stop(ctx, i.status.ID, time.Duration(max(r.GetTimeout(), 0))*time.Second); err != nil {
		return nil, err
	}
	return &runtimeapi.StopContainerResponse{}, nil
}

// RemoveContainer removes a container in whatever state. Its log stays: the directory is
// the kubelet's.
func (s *runtimeService) RemoveContainer(ctx context.Context, r *runtimeapi.RemoveContainerRequest) (*runtimeapi.RemoveContainerResponse, error) {
	i, err := s.index.container(ctx, r.GetContainerId())
	if missing(err) {
		return &runtimeapi.RemoveContainerResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := s.o.Engine.Destroy(ctx, i.status.ID); err != nil {
		return nil, err
	}
	s.users.forget(i.status.ID)
	return &runtimeapi.RemoveContainerResponse{}, nil
}

// UpdateContainerResources changes limits, all or none. For a container that has ended
// there is nothing to do.
func (s *runtimeService) UpdateContainerResources(ctx context.Context, r *runtimeapi.UpdateContainerResourcesRequest) (*runtimeapi.UpdateContainerResourcesResponse, error) {
	i, err := s.index.container(ctx, r.GetContainerId())
	if err != nil {
		return nil, err
	}
	if r.GetLinux() == nil || !i.status.State.Alive() {
		return &runtimeapi.UpdateContainerResourcesResponse{}, nil
	}
	if err := s.o.Engine.Update(ctx, i.status.ID, &containerizer.Resources{Linux: resources(r.GetLinux())}); err != nil {
		return nil, err
	}
	return &runtimeapi.UpdateContainerResourcesResponse{}, nil
}

// ReopenContainerLog reopens the log after the kubelet has renamed it.
func (s *runtimeService) ReopenContainerLog(ctx context.Context, r *runtimeapi.ReopenContainerLogRequest) (*runtimeapi.ReopenContainerLogResponse, error) {
	i, err := s.index.container(ctx, r.GetContainerId())
	if err != nil {
		return nil, err
	}
	if i.status.State != containerizer.StateRunning && i.status.State != containerizer.StatePaused {
		return nil, fmt.Errorf("reopen the log of container %q: it is %s, not running: %w", r.GetContainerId(), i.status.State, containerizer.ErrFailedPrecondition)
	}
	if err := s.o.Engine.ReopenLog(ctx, i.status.ID); err != nil {
		return nil, err
	}
	return &runtimeapi.ReopenContainerLogResponse{}, nil
}
