package engine

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// ValidateSpec checks what can be known about a spec without looking at the node
// or the image. The error is one sentence and wraps ErrInvalid.
func ValidateSpec(id containerizer.ContainerID, s *containerizer.Spec) error {
	if _, err := containerizer.ParseContainerID(string(id)); err != nil {
		return err
	}
	if len(id) > maxID {
		return invalid("container id %.20q… has %d bytes, at most %d are possible", id, len(id), maxID)
	}
	if s == nil {
		return fmt.Errorf("container %q: no spec: %w", id, containerizer.ErrInvalid)
	}
	for _, check := range []func(containerizer.ContainerID, *containerizer.Spec) error{
		validateIdentity, validateRootfs, validateCommand, validateNamespaces,
		validateMounts, validateArtifacts, validateDevices, validateSecurity, validateNetwork, validateRest,
	} {
		if err := check(id, s); err != nil {
			return fmt.Errorf("container %q: %w", id.Short(), err)
		}
	}
	return nil
}

// invalid is a sentence that wraps ErrInvalid.
func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, containerizer.ErrInvalid)...)
}

const (
	maxID    = 1024 // bytes of a whole id: it becomes a path, folders in between
	maxName  = 253
	maxLabel = 64 << 10 // bytes of one label or annotation
)

func validateName(name string) error {
	if name == "" {
		return nil
	}
	if len(name) > maxName {
		return invalid("name %.20q… has %d bytes, at most %d are possible", name, len(name), maxName)
	}
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && (i == 0 || !strings.ContainsRune("_.-", r)) {
			return invalid("name %q holds %q (letters, digits, and after the first '_', '.' and '-' are possible)", name, r)
		}
	}
	return nil
}

func validateIdentity(id containerizer.ContainerID, s *containerizer.Spec) error {
	if err := validateName(s.Name); err != nil {
		return err
	}
	if s.Name != "" && !id.IsRoot() {
		return invalid("name %q: only root containers have names", s.Name)
	}
	switch s.Class {
	case containerizer.ClassDefault:
	case containerizer.ClassPodSandbox:
		if !id.IsRoot() {
			return invalid("a pod sandbox must be a root container")
		}
	default:
		return invalid("class %q is unknown", s.Class)
	}
	for what, m := range map[string]map[string]string{"label": s.Labels, "annotation": s.Annotations} {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			switch {
			case k == "":
				return invalid("a %s has no name", what)
			case hasNUL(k) || hasNUL(m[k]):
				return invalid("%s %q holds a NUL byte", what, k)
			case len(k)+len(m[k]) > maxLabel:
				return invalid("%s %.40q has %d bytes, at most %d are possible", what, k, len(k)+len(m[k]), maxLabel)
			}
		}
	}
	return nil
}

func validateRootfs(id containerizer.ContainerID, s *containerizer.Spec) error {
	switch {
	case s.Image != nil && s.RootfsPath != "":
		return invalid("both image %q and root filesystem %q are given; choose one", s.Image.Reference, s.RootfsPath)
	case s.Image != nil:
		if err := validateImage(s.Image); err != nil {
			return err
		}
	case s.RootfsPath != "":
		if err := hostPath("root filesystem", s.RootfsPath); err != nil {
			return err
		}
	case id.IsRoot() && s.Class == containerizer.ClassDefault:
		return invalid("neither an image nor a root filesystem is given")
	}
	return propagation(s.RootfsPropagation)
}

func validateImage(img *containerizer.ImageSource) error {
	if img.Reference == "" || hasControl(img.Reference) {
		return invalid("image reference %q is empty or holds control characters", img.Reference)
	}
	switch img.Pull {
	case containerizer.PullMissing, containerizer.PullAlways, containerizer.PullNever:
	default:
		return invalid("pull policy %q is unknown (always, never, or empty for when missing)", img.Pull)
	}
	return nil
}

func propagation(mode string) error {
	switch mode {
	case "", "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable":
		return nil
	}
	return invalid("propagation %q of the root filesystem is unknown (private, slave, shared, unbindable, each with or without r)", mode)
}

// hostPath checks a path on the host.
func hostPath(what, p string) error {
	switch {
	case !path.IsAbs(p):
		return invalid("%s %q is not an absolute path", what, p)
	case hasNUL(p):
		return invalid("%s %q holds a NUL byte", what, p)
	case len(p) >= 4096:
		return invalid("%s %.40q… has %d bytes, at most 4095 are possible", what, p, len(p))
	}
	return nil
}

// containerPath checks a path in the container.
func containerPath(what, p string) error {
	if err := hostPath(what, p); err != nil {
		return err
	}
	if slices.Contains(strings.Split(p, "/"), "..") {
		return invalid("%s %q holds '..'", what, p)
	}
	return nil
}

func hasNUL(s string) bool { return strings.IndexByte(s, 0) >= 0 }

func validateRest(_ containerizer.ContainerID, s *containerizer.Spec) error {
	if err := validateResources(&s.Resources); err != nil {
		return err
	}
	if s.StopSignal != "" {
		if _, err := parseSignal(s.StopSignal); err != nil {
			return fmt.Errorf("stop %w", err)
		}
	}
	if s.StopTimeout != nil && *s.StopTimeout < 0 {
		return invalid("stop timeout %s is negative", *s.StopTimeout)
	}
	if err := validateLog(&s.Log); err != nil {
		return err
	}
	if hasControl(s.CgroupParent) || slices.Contains(strings.Split(s.CgroupParent, "/"), "..") {
		return invalid("cgroup parent %q holds '..' or control characters", s.CgroupParent)
	}
	for _, k := range slices.Sorted(maps.Keys(s.Sysctls)) {
		if k == "" || hasControl(k) || strings.Contains(k, "..") || strings.HasPrefix(k, "/") || hasNUL(s.Sysctls[k]) {
			return invalid("sysctl %q is not a name such as net.ipv4.ip_forward, or its value holds a NUL byte", k)
		}
	}
	if hasControl(s.Runtime) || strings.ContainsAny(s.Runtime, "/ ") {
		return invalid("OCI runtime %q holds blanks, slashes or control characters", s.Runtime)
	}
	return nil
}

func validateLog(l *containerizer.LogConfig) error {
	switch l.Driver {
	case containerizer.LogFile, containerizer.LogNone, containerizer.LogPassthrough:
	default:
		return invalid("log driver %q is unknown (none, passthrough, or empty for a file)", l.Driver)
	}
	if l.Path != "" {
		if err := hostPath("log path", l.Path); err != nil {
			return err
		}
	}
	if l.MaxSizeBytes < 0 || l.MaxFiles < 0 {
		return invalid("log size %d or number of files %d is negative", l.MaxSizeBytes, l.MaxFiles)
	}
	if l.MaxFiles > 1 && l.MaxSizeBytes == 0 {
		return invalid("%d log files are wanted, but no size at which to begin the next", l.MaxFiles)
	}
	return nil
}
