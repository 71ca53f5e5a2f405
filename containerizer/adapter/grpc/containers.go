package grpc

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/wire"
	berthv1 "github.com/berth-dev/berth/proto/berth/v1"
)

// containers is ContainersService.
type containers struct {
	berthv1.UnsafeContainersServiceServer // none of its methods may be missing here

	engine containerizer.Engine
	forms  forms // of lists
}

// decodeSpec checks what can be known of a description.
func decodeSpec(m *berthv1.Spec) (*containerizer.Spec, error) {
	if m == nil {
		return nil, fmt.Errorf("the request has no spec: %w", containerizer.ErrInvalid)
	}
	s := &containerizer.Spec{}
	if err := wire.Decode(s, m); err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	return s, nil
}

// Prepare implements [berthv1.ContainersServiceServer].
func (s *containers) Prepare(ctx context.Context, r *berthv1.PrepareRequest) (*berthv1.PrepareResponse, error) {
	id, spec, err := described(r)
	if err != nil {
		return nil, err
	}
	return &berthv1.PrepareResponse{}, s.engine.Prepare(ctx, id, spec)
}

// Launch implements [berthv1.ContainersServiceServer].
func (s *containers) Launch(ctx context.Context, r *berthv1.LaunchRequest) (*berthv1.LaunchResponse, error) {
	id, spec, err := described(r)
	if err != nil {
		return nil, err
	}
	_, err = s.engine.Launch(ctx, id, spec, containerizer.LaunchOptions{SecretEnv: texts(r.GetSecretEnv())})
	return &berthv1.LaunchResponse{}, err
}

// texts are bytes as the vocabulary has them.
func texts(list [][]byte) []string {
	var all []string
	for _, b := range list {
		all = append(all, string(b))
	}
	return all
}

// description is a request that describes a new container.
type description interface {
	GetId() string
	GetSpec() *berthv1.Spec
}

func described(r description) (containerizer.ContainerID, *containerizer.Spec, error) {
	id, err := parseID(r.GetId())
	if err != nil {
		return "", nil, err
	}
	spec, err := decodeSpec(r.GetSpec())
	return id, spec, err
}

// Start implements [berthv1.ContainersServiceServer].
func (s *containers) Start(ctx context.Context, r *berthv1.StartRequest) (*berthv1.StartResponse, error) {
	return &berthv1.StartResponse{}, on(r, func(id containerizer.ContainerID) error {
		_, err := s.engine.Start(ctx, id, containerizer.LaunchOptions{})
		return err
	})
}

// on does f to the container that r names.
func on(r interface{ GetId() string }, f func(containerizer.ContainerID) error) error {
	id, err := parseID(r.GetId())
	if err != nil {
		return err
	}
	return f(id)
}

// Wait implements [berthv1.ContainersServiceServer].
func (s *containers) Wait(ctx context.Context, r *berthv1.WaitRequest) (*berthv1.WaitResponse, error) {
	response := &berthv1.WaitResponse{Termination: &berthv1.Termination{}}
	return response, on(r, func(id containerizer.ContainerID) error {
		t, err := s.engine.Wait(ctx, id)
		if err != nil {
			return err
		}
		return wire.Encode(response.GetTermination(), t)
	})
}

// Stop implements [berthv1.ContainersServiceServer].
func (s *containers) Stop(ctx context.Context, r *berthv1.StopRequest) (*berthv1.StopResponse, error) {
	timeout, err := duration(r.GetTimeout())
	if err != nil {
		return nil, err
	}
	return &berthv1.StopResponse{}, on(r, func(id containerizer.ContainerID) error { return s.engine.Stop(ctx, id, timeout) })
}

// duration is d, nil when it is not set.
func duration(d *durationpb.Duration) (*time.Duration, error) {
	if d == nil {
		return nil, nil
	}
	if err := d.CheckValid(); err != nil {
		return nil, fmt.Errorf("%w: %w", err, containerizer.ErrInvalid)
	}
	v := d.AsDuration()
	return &v, nil
}

// Destroy implements [berthv1.ContainersServiceServer].
func (s *containers) Destroy(ctx context.Context, r *berthv1.DestroyRequest) (*berthv1.DestroyResponse, error) {
	return &berthv1.DestroyResponse{}, on(r, func(id containerizer.ContainerID) error { return s.engine.Destroy(ctx, id) })
}

// Kill implements [berthv1.ContainersServiceServer].
func (s *containers) Kill(ctx context.Context, r *berthv1.KillRequest) (*berthv1.KillResponse, error) {
	return &berthv1.KillResponse{}, on(r, func(id containerizer.ContainerID) error {
		return s.engine.Kill(ctx, id, int(r.GetSignal()), r.GetAll())
	})
}

// Pause implements [berthv1.ContainersServiceServer].
func (s *containers) Pause(ctx context.Context, r *berthv1.PauseRequest) (*berthv1.PauseResponse, error) {
	return &berthv1.PauseResponse{}, on(r, func(id containerizer.ContainerID) error { return s.engine.Pause(ctx, id) })
}

// Resume implements [berthv1.ContainersServiceServer].
func (s *containers) Resume(ctx context.Context, r *berthv1.ResumeRequest) (*berthv1.ResumeResponse, error) {
	return &berthv1.ResumeResponse{}, on(r, func(id containerizer.ContainerID) error { return s.engine.Resume(ctx, id) })
}

// Update implements [berthv1.ContainersServiceServer].
func (s *containers) Update(ctx context.Context, r *berthv1.UpdateRequest) (*berthv1.UpdateResponse, error) {
	if r.GetResources() == nil {
		return nil, fmt.Errorf("update: the request has no resources: %w", containerizer.ErrInvalid)
	}
	resources := &containerizer.Resources{}
	if err := wire.Decode(resources, r.GetResources()); err != nil {
		return nil, fmt.Errorf("resources: %w", err)
	}
	return &berthv1.UpdateResponse{}, on(r, func(id containerizer.ContainerID) error { return s.engine.Update(ctx, id, resources) })
}

// Rename implements [berthv1.ContainersServiceServer].
func (s *containers) Rename(ctx context.Context, r *berthv1.RenameRequest) (*berthv1.RenameResponse, error) {
	return &berthv1.RenameResponse{}, on(r, func(id containerizer.ContainerID) error { return s.engine.Rename(ctx, id, r.GetName()) })
}

// ReopenLog implements [berthv1.ContainersServiceServer].
func (s *containers) ReopenLog(ctx context.Context, r *berthv1.ReopenLogRequest) (*berthv1.ReopenLogResponse, error) {
	return &berthv1.ReopenLogResponse{}, on(r, func(id containerizer.ContainerID) error { return s.engine.ReopenLog(ctx, id) })
}
