package engine

import (
	"path"
	"slices"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

func validateMounts(id containerizer.ContainerID, s *containerizer.Spec) error {
	seen := map[string]bool{}
	for _, m := range s.Mounts {
		if err := containerPath("mount destination", m.Destination); err != nil {
			return err
		}
		dst := path.Clean(m.Destination)
		if dst == "/" {
			return invalid("mount destination %q is the root filesystem itself", m.Destination)
		}
		if seen[dst] {
			return invalid("two mounts on %q", dst)
		}
		seen[dst] = true
		if err := validateMountSource(id, &m); err != nil {
			return err
		}
		if err := validateMountOptions(&m); err != nil {
			return err
		}
		if err := validateMountRest(&m); err != nil {
			return err
		}
	}
	return nil
}

// maxArtifacts bounds how many a container may have.
const maxArtifacts = 1000

func validateArtifacts(_ containerizer.ContainerID, s *containerizer.Spec) error {
	if len(s.Artifacts) > maxArtifacts {
		return invalid("it has %d artifacts, at most %d are possible", len(s.Artifacts), maxArtifacts)
	}
	for i := range s.Artifacts {
		if err := s.Artifacts[i].Validate(); err != nil {
			return err
		}
	}
	return nil
}

func validateMountSource(id containerizer.ContainerID, m *containerizer.Mount) error {
	if hasNUL(m.Source) {
		return invalid("source of the mount on %q holds a NUL byte", m.Destination)
	}
	switch m.Type {
	case containerizer.MountBind:
		if err := hostPath("source of the mount on "+m.Destination+",", m.Source); err != nil {
			return err
		}
	case containerizer.MountTmpfs:
	case containerizer.MountImage:
		if m.Image == nil {
			return invalid("image mount on %q names no image", m.Destination)
		}
		if err := validateImage(m.Image); err != nil {
			return err
		}
	case containerizer.MountVolume:
		if m.Source == "" || validateName(m.Source) != nil {
			return invalid("volume %q on %q is not a name", m.Source, m.Destination)
		}
	case containerizer.MountSandboxPath:
		rel, ofParent := strings.CutPrefix(m.Source, "parent:")
		if ofParent && id.IsRoot() {
			return invalid("sandbox path %q: a root container has no parent", m.Source)
		}
		if rel == "" || path.IsAbs(rel) || slices.Contains(strings.Split(rel, "/"), "..") {
			return invalid("sandbox path %q is not a relative path without '..'", m.Source)
		}
	case containerizer.MountFilesystem:
		if m.FSType == "" || hasControl(m.FSType) {
			return invalid("filesystem mount on %q names no filesystem type", m.Destination)
		}
	default:
		return invalid("type %q of the mount on %q is unknown", m.Type, m.Destination)
	}
	return nil
}

func validateMountRest(m *containerizer.Mount) error {
	if m.SubPath != "" && (path.IsAbs(m.SubPath) || hasNUL(m.SubPath) || slices.Contains(strings.Split(m.SubPath, "/"), "..")) {
		return invalid("sub-path %q of the mount on %q is not a relative path without '..'", m.SubPath, m.Destination)
	}
	switch m.Relabel {
	case "", "shared", "private":
	default:
		return invalid("relabelling %q of the mount on %q is unknown (shared or private)", m.Relabel, m.Destination)
	}
	if err := validateMappings("uid", m.UIDMappings); err != nil {
		return err
	}
	return validateMappings("gid", m.GIDMappings)
}

// mountOpposites are options of which one mount can have one at most.
func mountOpposites() [][]string {
	return [][]string{
		{"ro", "rw", "rro"},
		{"suid", "nosuid"},
		{"dev", "nodev"},
		{"exec", "noexec"},
		{"atime", "noatime"},
		{"bind", "rbind"},
		{"idmap", "ridmap"},
		{"private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"},
	}
}

func validateMountOptions(m *containerizer.Mount) error {
	for _, o := range m.Options {
		if o == "" || hasControl(o) {
			return invalid("option %q of the mount on %q is empty or holds control characters", o, m.Destination)
		}
	}
	for _, group := range mountOpposites() {
		first := ""
		for _, o := range m.Options {
			switch {
			case !slices.Contains(group, o):
			case first != "" && o != first:
				return invalid("options %q and %q of the mount on %q exclude each other", first, o, m.Destination)
			default:
				first = o
			}
		}
	}
	return nil
}
