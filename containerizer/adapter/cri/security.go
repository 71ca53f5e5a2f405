package cri

import (
	"fmt"
	"path"
	"slices"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-dev/berth/containerizer"
)

const unconfined = "unconfined"

// security translates the privilege of a container.
func security(spec *containerizer.Spec, c *runtimeapi.LinuxContainerSecurityContext, pod *runtimeapi.LinuxSandboxSecurityContext) error {
	if c.GetPrivileged() {
		if !pod.GetPrivileged() {
			return fmt.Errorf("a privileged container needs a privileged pod sandbox: %w", containerizer.ErrInvalid)
		}
		spec.Security.Privileged = true
	}
	s := &spec.Security
	spec.ReadonlyRootfs = c.GetReadonlyRootfs()
	s.NoNewPrivileges = c.GetNoNewPrivs()
	s.CapAdd, s.CapDrop, s.CapAmbient = c.GetCapabilities().GetAddCapabilities(), c.GetCapabilities().GetDropCapabilities(), c.GetCapabilities().GetAddAmbientCapabilities()
	s.SELinux = selinux(c.GetSelinuxOptions(), pod.GetSelinuxOptions())
	if !s.Privileged {
		// Exactly what is asked for: an empty list is procMount Unmasked.
		masked, readonly := c.GetMaskedPaths(), c.GetReadonlyPaths()
		s.MaskedPaths, s.ReadonlyPaths = &masked, &readonly
	}
	var err error
	if s.Seccomp, err = seccomp(c); err != nil {
		return err
	}
	s.AppArmor, err = apparmor(c)
	return err
}

// selinux merges the options of the container over those of its pod.
func selinux(lists ...*runtimeapi.SELinuxOption) map[string]string {
	label := map[string]string{}
	for _, o := range slices.Backward(lists) {
		for key, value := range map[string]string{
			"user": o.GetUser(), "role": o.GetRole(), "type": o.GetType(), "level": o.GetLevel(),
		} {
			if value != "" {
				label[key] = value
			}
		}
	}
	if len(label) == 0 {
		return nil
	}
	return label
}

// seccomp is the profile by the engine's name. No field is no confinement, an empty one
// the runtime's default.
func seccomp(c *runtimeapi.LinuxContainerSecurityContext) (string, error) {
	p := c.GetSeccomp()
	if c.GetPrivileged() || p == nil {
		return unconfined, nil
	}
	switch p.GetProfileType() {
	case runtimeapi.SecurityProfile_RuntimeDefault:
		return "default", nil
	case runtimeapi.SecurityProfile_Unconfined:
		return unconfined, nil
	case runtimeapi.SecurityProfile_Localhost:
		file := strings.TrimPrefix(p.GetLocalhostRef(), localhost)
		if !path.IsAbs(file) {
			return "", fmt.Errorf("seccomp profile %q is not an absolute path: %w", p.GetLocalhostRef(), containerizer.ErrInvalid)
		}
		return file, nil
	}
	return "", fmt.Errorf("seccomp profile type %s is unknown: %w", p.GetProfileType(), containerizer.ErrInvalid)
}

// localhost begins the old form of profiles of the node.
const localhost = "localhost/"

// apparmor is the profile by the engine's name. The field comes before the old string.
func apparmor(c *runtimeapi.LinuxContainerSecurityContext) (string, error) {
	if c.GetPrivileged() {
		return unconfined, nil
	}
	if p := c.GetApparmor(); p != nil {
		switch p.GetProfileType() {
		case runtimeapi.SecurityProfile_RuntimeDefault:
			return "", nil
		case runtimeapi.SecurityProfile_Unconfined:
			return unconfined, nil
		case runtimeapi.SecurityProfile_Localhost:
			return apparmorName(p.GetLocalhostRef())
		}
		return "", fmt.Errorf("apparmor profile type %s is unknown: %w", p.GetProfileType(), containerizer.ErrInvalid)
	}
	switch old := c.GetApparmorProfile(); { //nolint:staticcheck // kubelets before 1.30 and critest send it
	case old == "", old == "runtime/default":
		return "", nil
	case old == unconfined:
		return unconfined, nil
	case strings.HasPrefix(old, localhost):
		return apparmorName(old)
	default:
		return "", fmt.Errorf("apparmor profile %q is none of \"runtime/default\", \"unconfined\" and \"localhost/NAME\": %w", old, containerizer.ErrInvalid)
	}
}

func apparmorName(ref string) (string, error) {
	name := strings.TrimPrefix(ref, localhost)
	if name == "" || name == unconfined {
		return "", fmt.Errorf("apparmor profile %q is no name of a profile: %w", ref, containerizer.ErrInvalid)
	}
	return name, nil
}
