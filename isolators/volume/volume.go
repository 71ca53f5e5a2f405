package volume

import (
	"context"
	"fmt"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// Options configure the isolators.
type Options struct {
	// Volumes is the directory of named volumes, each a directory in it.
	Volumes string
	// Images provisions the content of images; nil refuses image volumes.
	Images containerizer.VolumeProvisioner
}

// Isolator makes the mounts of some types.
type Isolator struct {
	name  string
	types []containerizer.MountType
	mount func(context.Context, *containerizer.Container, int, containerizer.Mount, *containerizer.LaunchInfo) error
	// cleanup removes what is not in the container's directory; nil is nothing.
	cleanup func(*containerizer.Container) error
}

var _ containerizer.Isolator = (*Isolator)(nil)

// All returns the isolators of this package.
func All(o Options) []containerizer.Isolator {
	return []containerizer.Isolator{
		&Isolator{"volume/host_path", []containerizer.MountType{containerizer.MountBind}, mountHostPath, nil},
		&Isolator{"volume/sandbox_path", []containerizer.MountType{containerizer.MountSandboxPath}, mountSandboxPath, nil},
		&Isolator{"volume/named", []containerizer.MountType{containerizer.MountVolume}, o.mountNamed, o.removeAnonymous},
		&Isolator{"volume/image", []containerizer.MountType{containerizer.MountImage}, o.mountImage, nil},
		&Isolator{"volume/tmpfs", []containerizer.MountType{containerizer.MountTmpfs, containerizer.MountFilesystem}, mountFilesystem, nil},
	}
}

// Types are the kinds of mounts that i makes.
func (i *Isolator) Types() []containerizer.MountType { return i.types }

// Name implements [containerizer.Isolator].
func (i *Isolator) Name() string { return i.name }

// Prepare implements [containerizer.Isolator].
func (i *Isolator) Prepare(ctx context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	var info *containerizer.LaunchInfo
	for n, m := range c.Spec.Mounts {
		if !i.makes(m.Type) {
			continue
		}
		if info == nil {
			info = &containerizer.LaunchInfo{}
		}
		if err := i.mount(ctx, c, n, m, info); err != nil {
			return nil, fmt.Errorf("mount on %q: %w", m.Destination, err)
		}
	}
	return info, nil
}

// Cleanup implements [containerizer.Isolator]. What was made goes with the
// container's directory and root filesystem; anonymous volumes go with a container that
// goes by itself.
func (i *Isolator) Cleanup(_ context.Context, c *containerizer.Container) error {
	if i.cleanup == nil {
		return nil
	}
	return i.cleanup(c)
}

func (i *Isolator) makes(t containerizer.MountType) bool { return slices.Contains(i.types, t) }

// bind is the mount of a host path with m's options.
func bind(m containerizer.Mount, source string) specs.Mount {
	return specs.Mount{
		Type: "bind", Source: source, Destination: m.Destination, Options: bindOptions(m.Options),
		UIDMappings: m.UIDMappings, GIDMappings: m.GIDMappings,
	}
}

// bindOptions makes a bind recursive unless it says otherwise, as Docker does.
func bindOptions(options []string) []string {
	for _, o := range options {
		if o == "bind" || o == "rbind" {
			return options
		}
	}
	return append([]string{"rbind"}, options...)
}

// part mounts a part of a directory without following links out of it.
func part(m containerizer.Mount, rootfs containerizer.Rootfs) containerizer.LayerMount {
	return containerizer.LayerMount{Rootfs: rootfs, SubPath: m.SubPath, Destination: m.Destination, Options: bindOptions(m.Options)}
}

// place adds the mount of a host directory, or of a part of it.
func place(m containerizer.Mount, source string, info *containerizer.LaunchInfo) {
	if m.SubPath != "" {
		info.LayerMounts = append(info.LayerMounts, part(m, containerizer.Rootfs{Path: source}))
		return
	}
	info.Mounts = append(info.Mounts, bind(m, source))
}
