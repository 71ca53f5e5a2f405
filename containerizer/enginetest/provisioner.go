package enginetest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
)

// Provisioner gives each container a folder below Root. It knows one image,
// "test:latest", with the configuration Config.
type Provisioner struct {
	Root   string
	Config v1.ImageConfig
	// On, when set, is called at the begin of each call, by the method's name; its
	// error is the call's.
	On func(ctx context.Context, call string, id containerizer.ContainerID) error
}

var _ containerizer.Provisioner = (*Provisioner)(nil)

// Image is the reference that [Provisioner] knows.
const Image = "test:latest"

// Provision implements [containerizer.Provisioner].
func (p *Provisioner) Provision(ctx context.Context, id containerizer.ContainerID, source containerizer.ImageSource) (*containerizer.Provisioned, error) {
	if p.On != nil {
		if err := p.On(ctx, "Provision", id); err != nil {
			return nil, err
		}
	}
	if source.Reference != Image {
		return nil, fmt.Errorf("image %q: %w", source.Reference, containerizer.ErrNotFound)
	}
	path := filepath.Join(p.Root, string(id))
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	cfg := p.Config
	return &containerizer.Provisioned{
		Rootfs: &containerizer.Rootfs{Path: path}, Config: &cfg,
		Manifest: digest.FromString(Image), Reference: Image,
	}, nil
}

// Destroy implements [containerizer.Provisioner].
func (p *Provisioner) Destroy(ctx context.Context, id containerizer.ContainerID) error {
	if p.On != nil {
		if err := p.On(ctx, "Destroy", id); err != nil {
			return err
		}
	}
	return os.RemoveAll(filepath.Join(p.Root, string(id)))
}
