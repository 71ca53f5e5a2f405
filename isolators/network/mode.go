package network

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// kind says what network namespace a container is in.
type kind int

const (
	kindPrivate kind = iota // its own
	kindHost
	kindPath   // one that somebody else configured
	kindShared // that of container mode.owner
)

type mode struct {
	kind  kind
	owner containerizer.ContainerID // whose files apply
}

func modeOf(c *containerizer.Container) (mode, error) {
	return resolve(c, (*containerizer.Spec).NetworkNamespace)
}

// utsOf is the same for the host name.
func utsOf(c *containerizer.Container) (mode, error) {
	return resolve(c, func(s *containerizer.Spec) containerizer.Namespace { return s.Namespaces.UTS })
}

func utsPrivate(c *containerizer.Container) bool {
	m, err := utsOf(c)
	return err == nil && m.kind == kindPrivate
}

// resolve follows a choice of namespace up the tree to the container that has it.
func resolve(c *containerizer.Container, choice func(*containerizer.Spec) containerizer.Namespace) (mode, error) {
	for at := c; ; at = at.Parent {
		ns := choice(at.Spec)
		switch ns.Mode {
		case containerizer.NamespaceDefault, containerizer.NamespaceParent:
			if at.Parent != nil {
				continue
			}
			if ns.Mode == containerizer.NamespaceParent {
				return mode{}, fmt.Errorf("container %q shares a namespace with its parent and has none: %w", at.ID.Short(), containerizer.ErrInvalid)
			}
		case containerizer.NamespaceContainer:
			if ns.Container == "" {
				return mode{}, fmt.Errorf("container %q joins the namespace of a container that it does not name: %w", at.ID.Short(), containerizer.ErrInvalid)
			}
			return mode{kindShared, ns.Container}, nil
		case containerizer.NamespaceHost:
			return own(c, at, kindHost), nil
		case containerizer.NamespacePath:
			return own(c, at, kindPath), nil
		case containerizer.NamespacePrivate:
		default:
			return mode{}, fmt.Errorf("namespace mode %q is unknown: %w", ns.Mode, containerizer.ErrInvalid)
		}
		return own(c, at, kindPrivate), nil
	}
}

// own is k for the container that chose it, and shared for those below.
func own(c, at *containerizer.Container, k kind) mode {
	if c != at {
		k = kindShared
	}
	return mode{k, at.ID}
}

// uidMappings are those of the container's user namespace.
func uidMappings(c *containerizer.Container) []specs.LinuxIDMapping {
	if c.Launch != nil && len(c.Launch.UIDMappings) > 0 {
		return c.Launch.UIDMappings
	}
	return c.Spec.Namespaces.UIDMappings
}

func gidMappings(c *containerizer.Container) []specs.LinuxIDMapping {
	if c.Launch != nil && len(c.Launch.GIDMappings) > 0 {
		return c.Launch.GIDMappings
	}
	return c.Spec.Namespaces.GIDMappings
}

// rootID is what 0 is mapped to.
func rootID(mappings []specs.LinuxIDMapping) int {
	for _, m := range mappings {
		if m.ContainerID == 0 && m.Size > 0 {
			return int(m.HostID)
		}
	}
	return 0
}
