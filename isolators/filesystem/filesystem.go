package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// DefaultShmBytes is the size of /dev/shm, as Docker's.
const DefaultShmBytes = 64 << 20

// Options configure the isolator. The zero value works.
type Options struct {
	// ShmBytes is the size of /dev/shm; 0 is DefaultShmBytes.
	ShmBytes int64
	// MountTypes are the kinds of Spec.Mounts that some isolator makes; a mount of
	// another kind is refused. nil refuses none.
	MountTypes []containerizer.MountType
	// CgroupRoot is where the host has its control groups; "" is /sys/fs/cgroup.
	CgroupRoot string
}

// Isolator contributes the file tree.
type Isolator struct {
	shmBytes   int64
	mountTypes []containerizer.MountType
	cgroupRoot string
}

var _ containerizer.Isolator = (*Isolator)(nil)

// New returns the isolator.
func New(o Options) *Isolator {
	i := &Isolator{shmBytes: o.ShmBytes, mountTypes: o.MountTypes, cgroupRoot: o.CgroupRoot}
	if i.shmBytes == 0 {
		i.shmBytes = DefaultShmBytes
	}
	if i.cgroupRoot == "" {
		i.cgroupRoot = "/sys/fs/cgroup"
	}
	return i
}

// Name implements [containerizer.Isolator].
func (i *Isolator) Name() string { return "filesystem/linux" }

// Prepare implements [containerizer.Isolator].
func (i *Isolator) Prepare(_ context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	if err := i.check(c.Spec); err != nil {
		return nil, err
	}
	if c.Spec.Class == containerizer.ClassPodSandbox {
		if err := makePodShm(c); err != nil {
			return nil, err
		}
	}
	info := &containerizer.LaunchInfo{
		ReadonlyRootfs:    c.Spec.ReadonlyRootfs,
		RootfsPropagation: c.Spec.RootfsPropagation,
	}
	mountNamespace := specs.LinuxNamespace{Type: specs.MountNamespace}
	switch {
	case c.Rootfs != nil:
		rootfs := *c.Rootfs
		rootfs.IDMapped = hasNamespace(c, specs.UserNamespace)
		info.Rootfs = &rootfs
	case c.Spec.Class == containerizer.ClassPodSandbox && c.Spec.Process.Init:
		// The containers of the pod see its process, and through /proc/1/root its file tree:
		// that must not be the host's.
		root, err := makePodRoot(c)
		if err != nil {
			return nil, err
		}
		info.Rootfs, info.ReadonlyRootfs = &containerizer.Rootfs{Path: root}, true
	case c.Parent != nil:
		// The parent's root filesystem, in a copy of its mounts as they are now.
		p, err := c.NamespacePath(c.Parent.ID, specs.MountNamespace)
		if err != nil {
			return nil, fmt.Errorf("share the root filesystem of %q: %w", c.Parent.ID, err)
		}
		mountNamespace.Path = p
	}
	info.Namespaces = []specs.LinuxNamespace{mountNamespace}
	var err error
	switch {
	case c.Rootfs != nil:
		info.Mounts, err = i.defaultMounts(c)
	case c.Parent != nil:
		info.Mounts = i.ownMounts(c)
	}
	if err != nil {
		return nil, err
	}
	return info, nil
}

// makePodShm makes what the containers of a pod share as /dev/shm. It goes with
// the pod sandbox's directory.
func makePodShm(c *containerizer.Container) error {
	dir := filepath.Join(c.Dir, podShm)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make /dev/shm of the pod: %w", err)
	}
	if err := os.Chmod(dir, 0o777|fs.ModeSticky); err != nil {
		return fmt.Errorf("make /dev/shm of the pod: %w", err)
	}
	return nil
}

// makePodRoot makes the file tree of the mini-init of a pod, which is empty. It goes with
// the pod sandbox's directory.
func makePodRoot(c *containerizer.Container) (string, error) {
	dir := filepath.Join(c.Dir, "root")
	if err := os.Mkdir(dir, 0o555); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("make the file tree of the pod's init: %w", err)
	}
	return dir, nil
}

// Cleanup implements [containerizer.Isolator]; there is nothing to release.
func (i *Isolator) Cleanup(context.Context, *containerizer.Container) error { return nil }

func (i *Isolator) check(s *containerizer.Spec) error {
	switch s.RootfsPropagation {
	case "", "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable":
	default:
		return fmt.Errorf("propagation %q of the root filesystem is none of private, slave, shared, unbindable and their recursive forms: %w", s.RootfsPropagation, containerizer.ErrInvalid)
	}
	seen := map[string]bool{}
	for _, m := range s.Mounts {
		if !path.IsAbs(m.Destination) {
			return fmt.Errorf("mount destination %q is not an absolute path: %w", m.Destination, containerizer.ErrInvalid)
		}
		if d := path.Clean(m.Destination); seen[d] {
			return fmt.Errorf("two mounts on %q: %w", d, containerizer.ErrInvalid)
		} else {
			seen[d] = true
		}
		if i.mountTypes != nil && !slices.Contains(i.mountTypes, m.Type) {
			return fmt.Errorf("mount on %q: no isolator for mounts of type %q is configured: %w", m.Destination, m.Type, containerizer.ErrUnsupported)
		}
	}
	return nil
}

// hasNamespace says whether the container has a namespace other than the host's.
func hasNamespace(c *containerizer.Container, t specs.LinuxNamespaceType) bool {
	return c.Launch != nil && slices.ContainsFunc(c.Launch.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == t })
}

// isNew says whether the container gets a new namespace of the kind.
func isNew(c *containerizer.Container, t specs.LinuxNamespaceType) bool {
	return c.Launch != nil && slices.ContainsFunc(c.Launch.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == t && n.Path == "" })
}

// isUnified says whether control groups are those of version 2.
func (i *Isolator) isUnified() bool {
	var st unix.Statfs_t
	return unix.Statfs(i.cgroupRoot, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}
