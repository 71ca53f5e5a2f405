package namespace

import (
	"context"
	"fmt"
	"os"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// Isolator contributes one kind of namespace.
type Isolator struct {
	kind kind
}

var _ containerizer.Isolator = (*Isolator)(nil)

// kind is a kind of namespace and how it is chosen.
type kind struct {
	name string
	t    specs.LinuxNamespaceType
	// file is the name in /proc/PID/ns.
	file   string
	choice func(*containerizer.Spec) containerizer.Namespace
	// root and child are what NamespaceDefault means.
	root, child containerizer.NamespaceMode
}

const (
	private = containerizer.NamespacePrivate
	parent  = containerizer.NamespaceParent
	host    = containerizer.NamespaceHost
)

//nolint:gochecknoglobals // a constant table
var kinds = [...]kind{
	{"namespaces/user", specs.UserNamespace, "user", func(s *containerizer.Spec) containerizer.Namespace { return s.Namespaces.User }, host, parent},
	{"namespaces/network", specs.NetworkNamespace, "net", (*containerizer.Spec).NetworkNamespace, private, parent},
	{"namespaces/ipc", specs.IPCNamespace, "ipc", func(s *containerizer.Spec) containerizer.Namespace { return s.Namespaces.IPC }, private, parent},
	{"namespaces/uts", specs.UTSNamespace, "uts", func(s *containerizer.Spec) containerizer.Namespace { return s.Namespaces.UTS }, private, parent},
	{"namespaces/pid", specs.PIDNamespace, "pid", func(s *containerizer.Spec) containerizer.Namespace { return s.Namespaces.PID }, private, private},
	{"namespaces/cgroup", specs.CgroupNamespace, "cgroup", func(s *containerizer.Spec) containerizer.Namespace { return s.Namespaces.Cgroup }, private, private},
	{"namespaces/time", specs.TimeNamespace, "time", func(s *containerizer.Spec) containerizer.Namespace { return s.Namespaces.Time }, host, parent},
}

// All returns the isolators of this package in their order: the user namespace
// first, since it decides what the others may do.
func All() []containerizer.Isolator {
	list := make([]containerizer.Isolator, 0, len(kinds)+1)
	for _, k := range kinds {
		list = append(list, &Isolator{k})
	}
	return append(list, &Sysctl{})
}

// Name implements [containerizer.Isolator].
func (i *Isolator) Name() string { return i.kind.name }

// Prepare implements [containerizer.Isolator].
func (i *Isolator) Prepare(_ context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	s, err := i.kind.resolve(c)
	if err != nil {
		return nil, fmt.Errorf("%s namespace: %w", i.kind.file, err)
	}
	if i.kind.t == specs.UserNamespace {
		return userInfo(c, s)
	}
	var info containerizer.LaunchInfo
	switch {
	case s.path != "":
		info.Namespaces = []specs.LinuxNamespace{{Type: i.kind.t, Path: s.path}}
	case s.private:
		info.Namespaces = []specs.LinuxNamespace{{Type: i.kind.t}}
	default:
		return nil, nil
	}
	if i.kind.t == specs.TimeNamespace && s.private {
		info.TimeOffsets = c.Spec.Namespaces.TimeOffsets
	}
	return &info, nil
}

// Cleanup implements [containerizer.Isolator]; there is nothing to release.
func (i *Isolator) Cleanup(context.Context, *containerizer.Container) error { return nil }

// source is where a namespace comes from: a new one, that at path, or the host's.
type source struct {
	private bool
	path    string
	// of is the container whose namespace is joined, when it is an ancestor.
	of *containerizer.Container
}

// resolve says where c's namespace of the kind comes from.
func (k *kind) resolve(c *containerizer.Container) (source, error) {
	n := k.choice(c.Spec)
	mode := n.Mode
	if mode == containerizer.NamespaceDefault {
		if mode = k.root; c.Parent != nil {
			mode = k.child
		}
	}
	switch mode {
	case private:
		return source{private: true}, nil
	case host:
		return source{}, nil
	case parent:
		if c.Parent == nil {
			return source{}, fmt.Errorf("mode %q is for child containers, and %q is a root: %w", mode, c.ID, containerizer.ErrInvalid)
		}
		return k.join(c, c.Parent.ID, c.Parent)
	case containerizer.NamespaceContainer:
		if n.Container == "" {
			return source{}, fmt.Errorf("mode %q names no container: %w", mode, containerizer.ErrInvalid)
		}
		return k.join(c, n.Container, nil)
	case containerizer.NamespacePath:
		return k.joinPath(n.Path, nil)
	default:
	}
	return source{}, fmt.Errorf("mode %q is unknown: %w", mode, containerizer.ErrInvalid)
}

func (k *kind) join(c *containerizer.Container, id containerizer.ContainerID, of *containerizer.Container) (source, error) {
	path, err := c.NamespacePath(id, k.t)
	if err != nil {
		return source{}, fmt.Errorf("of container %q: %w", id, err)
	}
	return k.joinPath(path, of)
}

// joinPath joins the namespace at path, unless it is the one we are in: that is
// sharing the host's, and joining one's own user namespace is an error (setns(2)).
func (k *kind) joinPath(path string, of *containerizer.Container) (source, error) {
	st, err := os.Stat(path)
	if err != nil {
		return source{}, fmt.Errorf("%w: %w", err, containerizer.ErrNotFound)
	}
	own, err := os.Stat("/proc/self/ns/" + k.file)
	if err != nil {
		return source{}, fmt.Errorf("the kernel has none: %w: %w", err, containerizer.ErrUnsupported)
	}
	if os.SameFile(st, own) {
		return source{}, nil
	}
	if device(st) != device(own) {
		return source{}, fmt.Errorf("%q is no namespace file: %w", path, containerizer.ErrInvalid)
	}
	return source{path: path, of: of}, nil
}

// device is the device of a file; namespace files are all on one (nsfs).
func device(st os.FileInfo) uint64 {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return s.Dev
	}
	return 0
}
