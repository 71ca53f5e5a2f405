package cri

import (
	"context"
	"fmt"
	"slices"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	crierrors "k8s.io/cri-api/pkg/errors"

	"github.com/berth-dev/berth/containerizer"
)

// mounts translates the mounts of a container.
func (s *Server) mounts(ctx context.Context, list []*runtimeapi.Mount) ([]containerizer.Mount, error) {
	var out []containerizer.Mount
	for _, m := range list {
		one, err := s.mount(ctx, m)
		if err != nil {
			return nil, fmt.Errorf("mount on %q: %w", m.GetContainerPath(), err)
		}
		out = append(out, *one)
	}
	return out, nil
}

func (s *Server) mount(ctx context.Context, m *runtimeapi.Mount) (*containerizer.Mount, error) {
	if m.GetContainerPath() == "" {
		return nil, fmt.Errorf("it has no path in the container: %w", containerizer.ErrInvalid)
	}
	if m.GetImage().GetImage() != "" {
		return s.imageMount(ctx, m)
	}
	if m.GetHostPath() == "" {
		return nil, fmt.Errorf("it has neither a path on the host nor an image: %w", containerizer.ErrInvalid)
	}
	options, err := mountOptions(m)
	if err != nil {
		return nil, err
	}
	out := &containerizer.Mount{
		Type: containerizer.MountBind, Source: m.GetHostPath(), Destination: m.GetContainerPath(), Options: options, CreateSource: true,
		UIDMappings: mappings(m.GetUidMappings()), GIDMappings: mappings(m.GetGidMappings()),
	}
	if m.GetSelinuxRelabel() {
		out.Relabel = "shared"
	}
	return out, nil
}

// mountOptions are those of mount(8).
func mountOptions(m *runtimeapi.Mount) ([]string, error) {
	options := []string{"rbind"}
	switch m.GetPropagation() {
	case runtimeapi.MountPropagation_PROPAGATION_PRIVATE:
		options = append(options, "rprivate")
	case runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER:
		options = append(options, "rslave")
	case runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL:
		options = append(options, "rshared")
	default:
		return nil, fmt.Errorf("propagation %s is unknown: %w", m.GetPropagation(), containerizer.ErrInvalid)
	}
	switch {
	case m.GetRecursiveReadOnly() && !m.GetReadonly():
		return nil, fmt.Errorf("recursively read-only, but not read-only: %w", containerizer.ErrInvalid)
	case m.GetRecursiveReadOnly() && m.GetPropagation() != runtimeapi.MountPropagation_PROPAGATION_PRIVATE:
		return nil, fmt.Errorf("recursively read-only mounts are private, not %s: %w", m.GetPropagation(), containerizer.ErrInvalid)
	case m.GetRecursiveReadOnly():
		options = append(options, "rro")
	case m.GetReadonly():
		options = append(options, "ro")
	}
	for _, o := range m.GetMountOptions() {
		if !slices.Contains([]string{"noexec", "nosuid", "nodev"}, o) {
			return nil, fmt.Errorf("mount option %q: noexec, nosuid and nodev exist: %w", o, containerizer.ErrInvalid)
		}
		options = append(options, o)
	}
	return options, nil
}

// imageMount gives the content of an image that has been pulled, read-only.
func (s *Server) imageMount(ctx context.Context, m *runtimeapi.Mount) (*containerizer.Mount, error) {
	if !m.GetReadonly() {
		return nil, fmt.Errorf("the content of an image can be mounted read-only only: %w", containerizer.ErrInvalid)
	}
	image, err := s.image(ctx, m.GetImage().GetImage())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", crierrors.ErrImageVolumeMountFailed, err)
	}
	return &containerizer.Mount{
		Type: containerizer.MountImage, Destination: m.GetContainerPath(), SubPath: m.GetImageSubPath(), Options: []string{"ro"},
		Image: &containerizer.ImageSource{Reference: image.Config.String(), Pull: containerizer.PullNever, ReadOnly: true},
	}, nil
}
