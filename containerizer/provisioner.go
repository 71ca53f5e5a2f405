package containerizer

import (
	"context"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Provisioned is an image made ready for one container.
type Provisioned struct {
	Rootfs *Rootfs
	// Config is the image's configuration (image-spec, config.md).
	Config *v1.ImageConfig
	// Manifest is the digest of the manifest that was chosen, Reference the
	// canonical name it was found by.
	Manifest  digest.Digest
	Reference string
}

// Provisioner turns images into root filesystems.
type Provisioner interface {
	// Provision fetches the image if source.Pull wants that, and makes a root
	// filesystem for id: layers that are shared and never written, and a writable
	// layer of its own unless source.ReadOnly. Calling it again for id with the same
	// source returns the same, with the writable layer's content kept. Errors:
	// ErrInvalid (reference), ErrNotFound (image), ErrPermission, ErrUnavailable,
	// ErrDataCorrupt, ErrResourceExhausted.
	Provision(ctx context.Context, id ContainerID, source ImageSource) (*Provisioned, error)
	// Destroy gives up everything provisioned for id, volumes from images included.
	// It is idempotent and does not wait for the removal of files.
	Destroy(ctx context.Context, id ContainerID) error
}

// VolumeProvisioner provisions image content as read-only volumes.
type VolumeProvisioner interface {
	// ProvisionVolume is Provision for the n-th image volume of id; the result has no
	// writable layer. Destroy(id) gives it up.
	ProvisionVolume(ctx context.Context, id ContainerID, n int, source ImageSource) (*Provisioned, error)
}

// DiskReporter is implemented by provisioners that know what a container has written.
type DiskReporter interface {
	// DiskUsage measures the writable layer in c.Rootfs. What takes long goes on after
	// it has returned, and the last result stands meanwhile; nil is nothing to measure,
	// or not known yet.
	DiskUsage(ctx context.Context, c *Container) (*DiskUsage, error)
}
