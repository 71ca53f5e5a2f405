package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

func mountHostPath(_ context.Context, _ *containerizer.Container, _ int, m containerizer.Mount, info *containerizer.LaunchInfo) error {
	if !filepath.IsAbs(m.Source) {
		return fmt.Errorf("source %q is not an absolute path of the host: %w", m.Source, containerizer.ErrInvalid)
	}
	_, err := os.Stat(m.Source)
	switch {
	case errors.Is(err, fs.ErrNotExist) && m.CreateSource:
		if err := os.MkdirAll(m.Source, 0o755); err != nil {
			return fmt.Errorf("make the source: %w", err)
		}
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("source %q does not exist on the host: %w", m.Source, containerizer.ErrInvalid)
	case err != nil:
		return fmt.Errorf("source: %w", err)
	}
	place(m, m.Source, info)
	return nil
}

// parentPrefix before a sandbox path means the parent's sandbox, as Mesos's
// SANDBOX_PATH with type PARENT.
const parentPrefix = "parent:"

func mountSandboxPath(_ context.Context, c *containerizer.Container, _ int, m containerizer.Mount, info *containerizer.LaunchInfo) error {
	owner, rel := c, m.Source
	if r, ok := strings.CutPrefix(m.Source, parentPrefix); ok {
		if rel, owner = r, c.Parent; owner == nil {
			return fmt.Errorf("source %q is of the parent's sandbox, and %q is a root: %w", m.Source, c.ID, containerizer.ErrInvalid)
		}
	}
	if !filepath.IsLocal(rel) {
		return fmt.Errorf("source %q is not a path below the sandbox: %w", m.Source, containerizer.ErrInvalid)
	}
	sandbox := filepath.Join(owner.Dir, "sandbox")
	if err := os.Mkdir(sandbox, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the sandbox: %w", err)
	}
	// The container writes to its sandbox: links in it must not lead out.
	root, err := os.OpenRoot(sandbox)
	if err != nil {
		return fmt.Errorf("open the sandbox: %w", err)
	}
	defer func() { _ = root.Close() }()
	if err := root.MkdirAll(rel, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make %q in the sandbox: %w", rel, err)
	}
	m.SubPath = filepath.Join(rel, m.SubPath)
	place(m, sandbox, info)
	return nil
}

func (o Options) mountNamed(_ context.Context, _ *containerizer.Container, _ int, m containerizer.Mount, info *containerizer.LaunchInfo) error {
	if m.Source == "" || !filepath.IsLocal(m.Source) || strings.ContainsRune(m.Source, '/') {
		return fmt.Errorf("volume name %q is not a single path element: %w", m.Source, containerizer.ErrInvalid)
	}
	data := filepath.Join(o.Volumes, m.Source)
	if _, err := os.Stat(data); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no volume %q (berth volume create): %w", m.Source, containerizer.ErrNotFound)
	} else if err != nil {
		return fmt.Errorf("volume %q: %w", m.Source, err)
	}
	place(m, data, info)
	return nil
}

func (o Options) mountImage(ctx context.Context, c *containerizer.Container, n int, m containerizer.Mount, info *containerizer.LaunchInfo) error {
	if o.Images == nil || m.Image == nil {
		return fmt.Errorf("no image is given, or none can be provisioned here: %w", containerizer.ErrInvalid)
	}
	if slices.Contains(m.Options, "rw") || slices.Contains(m.Options, "rrw") {
		return fmt.Errorf("an image volume is read-only: %w", containerizer.ErrInvalid)
	}
	source := *m.Image
	source.ReadOnly = true
	p, err := o.Images.ProvisionVolume(ctx, c.ID, n, source)
	if err != nil {
		return fmt.Errorf("image %q: %w", m.Image.Reference, err)
	}
	l := part(m, *p.Rootfs)
	l.Options = append(l.Options, "ro")
	info.LayerMounts = append(info.LayerMounts, l)
	return nil
}

func mountFilesystem(_ context.Context, _ *containerizer.Container, _ int, m containerizer.Mount, info *containerizer.LaunchInfo) error {
	mount := specs.Mount{Type: m.FSType, Source: m.Source, Destination: m.Destination, Options: m.Options}
	if m.Type == containerizer.MountTmpfs {
		mount.Type, mount.Source = "tmpfs", "tmpfs"
		mount.Options = append([]string{"nosuid", "nodev", "noexec"}, m.Options...)
	}
	if mount.Type == "" {
		return fmt.Errorf("no filesystem type is given: %w", containerizer.ErrInvalid)
	}
	if m.SubPath != "" {
		return fmt.Errorf("a new filesystem has no part %q to mount: %w", m.SubPath, containerizer.ErrInvalid)
	}
	info.Mounts = append(info.Mounts, mount)
	return nil
}
