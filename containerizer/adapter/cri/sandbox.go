package cri

import (
	"context"
	"errors"
	"fmt"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-dev/berth/containerizer"
)

// RunPodSandbox makes a pod sandbox. It is ready when the call returns: its network is
// up. A retry joins the operation of the first call, or finds what that has made.
func (s *runtimeService) RunPodSandbox(ctx context.Context, r *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	runtime, err := s.runtimeOf(r.GetRuntimeHandler())
	if err != nil {
		return nil, fmt.Errorf("run pod sandbox %q: %w", r.GetConfig().GetMetadata().GetName(), err)
	}
	network := ""
	if !hostNetwork(r.GetConfig()) {
		if network, err = s.o.Node.PodNetwork(); err != nil {
			return nil, fmt.Errorf("run pod sandbox: %w", err)
		}
	}
	spec, err := podSpec(r, network, runtime)
	if err != nil {
		return nil, fmt.Errorf("run pod sandbox %q: %w", r.GetConfig().GetMetadata().GetName(), err)
	}
	key := podKey(r.GetConfig().GetMetadata())
	id, err := s.index.choose(ctx, key, "")
	if err != nil {
		return nil, err
	}
	if spec.Network.Hostname == "" && spec.Namespaces.UTS.Mode != containerizer.NamespaceHost {
		spec.Network.Hostname = string(id[:12])
	}
	_, err = s.o.Engine.Launch(ctx, id, spec, containerizer.LaunchOptions{})
	s.index.done(key, ctx.Err() != nil) // the operation goes on then, and a retry finds it by the id
	if err != nil {
		return nil, err
	}
	status, err := s.o.Engine.Status(ctx, id)
	if err != nil {
		return nil, err
	}
	if status.State != containerizer.StateRunning {
		return nil, fmt.Errorf("pod sandbox %q of this attempt exists, and is %s; another attempt is needed: %w", id, status.State, containerizer.ErrAlreadyExists)
	}
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: string(id)}, nil
}

// StopPodSandbox kills the pod's containers and gives its network back. What cannot be
// given back now is owed, and the engine tries again: the pod is stopped all the same.
func (s *runtimeService) StopPodSandbox(ctx context.Context, r *runtimeapi.StopPodSandboxRequest) (*runtimeapi.StopPodSandboxResponse, error) {
	i, err := s.index.sandbox(ctx, r.GetPodSandboxId())
	if missing(err) {
		return &runtimeapi.StopPodSandboxResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := s.stop(ctx, i.status.ID, 0); err != nil {
		return nil, err
	}
	return &runtimeapi.StopPodSandboxResponse{}, nil
}

// stop ends a container; one that has ended, or is gone, is fine.
func (s *Server) stop(ctx context.Context, id containerizer.ContainerID, timeout time.Duration) error {
	err := s.o.Engine.Stop(ctx, id, &timeout)
	if err == nil || missing(err) || ctx.Err() != nil {
		return errors.Join(ctx.Err())
	}
	status, serr := s.o.Engine.Status(ctx, id)
	if missing(serr) {
		return nil
	}
	if serr == nil && (status.State == containerizer.StateExited || status.State == containerizer.StateDestroying) {
		return nil
	}
	return err
}

// RemovePodSandbox removes a pod sandbox and its containers, whatever they do.
func (s *runtimeService) RemovePodSandbox(ctx context.Context, r *runtimeapi.RemovePodSandboxRequest) (*runtimeapi.RemovePodSandboxResponse, error) {
	i, err := s.index.sandbox(ctx, r.GetPodSandboxId())
	if missing(err) {
		return &runtimeapi.RemovePodSandboxResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := s.o.Engine.Destroy(ctx, i.status.ID); err != nil {
		return nil, err
	}
	return &runtimeapi.RemovePodSandboxResponse{}, nil
}

// UpdatePodSandboxResources takes note of nothing: the kubelet has changed the pod's
// control group itself, and there is no virtual machine to be resized.
func (s *runtimeService) UpdatePodSandboxResources(ctx context.Context, r *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	if _, err := s.index.sandbox(ctx, r.GetPodSandboxId()); err != nil {
		return nil, err
	}
	return &runtimeapi.UpdatePodSandboxResourcesResponse{}, nil
}

// UpdateRuntimeConfig is answered, and changes nothing: the network configuration is the
// operator's or the network add-on's.
func (s *runtimeService) UpdateRuntimeConfig(context.Context, *runtimeapi.UpdateRuntimeConfigRequest) (*runtimeapi.UpdateRuntimeConfigResponse, error) {
	return &runtimeapi.UpdateRuntimeConfigResponse{}, nil
}
