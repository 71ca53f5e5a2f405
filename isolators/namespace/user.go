package namespace

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// maxMappings is how many lines a uid_map takes (user_namespaces(7), kernel 4.15).
const maxMappings = 340

// userInfo contributes the user namespace and its mappings; a joined one brings
// the mappings of its owner, which idmapped mounts need.
func userInfo(c *containerizer.Container, s source) (*containerizer.LaunchInfo, error) {
	n := &c.Spec.Namespaces
	switch {
	case s.private:
		if err := checkMappings("uid", n.UIDMappings); err != nil {
			return nil, err
		}
		if err := checkMappings("gid", n.GIDMappings); err != nil {
			return nil, err
		}
		return &containerizer.LaunchInfo{
			Namespaces:  []specs.LinuxNamespace{{Type: specs.UserNamespace}},
			UIDMappings: n.UIDMappings,
			GIDMappings: n.GIDMappings,
		}, nil
	case s.path != "":
		info := &containerizer.LaunchInfo{Namespaces: []specs.LinuxNamespace{{Type: specs.UserNamespace, Path: s.path}}}
		if s.of != nil && s.of.Launch != nil {
			info.UIDMappings, info.GIDMappings = s.of.Launch.UIDMappings, s.of.Launch.GIDMappings
		} else {
			info.UIDMappings, info.GIDMappings = n.UIDMappings, n.GIDMappings
		}
		return info, nil
	}
	if len(n.UIDMappings)+len(n.GIDMappings) > 0 {
		return nil, fmt.Errorf("uid or gid mappings without a user namespace: %w", containerizer.ErrInvalid)
	}
	return nil, nil
}

// checkMappings refuses what the kernel would refuse with a bare EINVAL.
func checkMappings(what string, mappings []specs.LinuxIDMapping) error {
	if len(mappings) == 0 {
		return fmt.Errorf("a private user namespace needs %s mappings: %w", what, containerizer.ErrInvalid)
	}
	if len(mappings) > maxMappings {
		return fmt.Errorf("%d %s mappings, at most %d are possible: %w", len(mappings), what, maxMappings, containerizer.ErrInvalid)
	}
	hasRoot := false
	for i, m := range mappings {
		if m.Size == 0 || uint64(m.ContainerID)+uint64(m.Size) > 1<<32-1 || uint64(m.HostID)+uint64(m.Size) > 1<<32-1 {
			return fmt.Errorf("%s mapping %d:%d:%d is empty or goes beyond the last id: %w", what, m.ContainerID, m.HostID, m.Size, containerizer.ErrInvalid)
		}
		hasRoot = hasRoot || m.ContainerID == 0
		for _, o := range mappings[:i] {
			if overlap(m.ContainerID, m.Size, o.ContainerID, o.Size) || overlap(m.HostID, m.Size, o.HostID, o.Size) {
				return fmt.Errorf("%s mappings %d:%d:%d and %d:%d:%d overlap: %w", what, o.ContainerID, o.HostID, o.Size, m.ContainerID, m.HostID, m.Size, containerizer.ErrInvalid)
			}
		}
	}
	if !hasRoot {
		return fmt.Errorf("the %s mappings have no id 0, which sets the container up: %w", what, containerizer.ErrInvalid)
	}
	return nil
}

func overlap(a, na, b, nb uint32) bool {
	return uint64(a) < uint64(b)+uint64(nb) && uint64(b) < uint64(a)+uint64(na)
}
