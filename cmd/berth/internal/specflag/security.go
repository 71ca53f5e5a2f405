package specflag

import (
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/containerizer"
)

// securityFlags change the container's privilege.
type securityFlags struct {
	privileged bool
	add, drop  []string
	options    []string
}

func (f *securityFlags) register(set *pflag.FlagSet) {
	set.BoolVar(&f.privileged, "privileged", false, "lift every restriction: all capabilities and devices, nothing masked or filtered")
	list(set, &f.add, "cap-add", "", "add a `capability` (or ALL)")
	list(set, &f.drop, "cap-drop", "", "drop a `capability` (or ALL)")
	list(set, &f.options, "security-opt", "", "security `option`: no-new-privileges, seccomp=, apparmor=, label=, systempaths=unconfined, mask=, unmask=")
}

func (f *securityFlags) apply(host Host, spec *containerizer.Spec) error {
	s := &spec.Security
	s.Privileged, s.CapAdd, s.CapDrop = f.privileged, f.add, f.drop
	for _, o := range f.options {
		if err := securityOption(host, s, o); err != nil {
			return err
		}
	}
	return nil
}

// securityOption applies one --security-opt, in Docker's form with '=' or its old
// one with ':'.
func securityOption(host Host, s *containerizer.Security, option string) error {
	i := strings.IndexAny(option, "=:")
	key, value := option, ""
	if i >= 0 {
		key, value = option[:i], option[i+1:]
	}
	if value == "" && key != "no-new-privileges" {
		return invalidf("--security-opt %q has no value", option)
	}
	switch key {
	case "no-new-privileges":
		on := true
		if value != "" {
			var err error
			if on, err = strconv.ParseBool(value); err != nil {
				return invalidf("--security-opt %q: true or false", option)
			}
		}
		s.NoNewPrivileges = on
	case "seccomp":
		return seccompOption(host, s, value)
	case "apparmor":
		s.AppArmor = value
	case "label":
		return labelOption(s, option, value)
	case "systempaths":
		if value != "unconfined" {
			return invalidf("--security-opt %q: only systempaths=unconfined exists", option)
		}
		s.MaskedPaths, s.ReadonlyPaths = &[]string{}, &[]string{}
	case "mask":
		return maskOption(s, option, value)
	case "unmask":
		if value != "ALL" && value != "all" {
			return invalidf("--security-opt %q: unmask=ALL is possible; single paths are not", option)
		}
		s.MaskedPaths, s.ReadonlyPaths = &[]string{}, &[]string{}
	default:
		return invalidf("--security-opt %q: no option %q", option, key)
	}
	return nil
}

func seccompOption(host Host, s *containerizer.Security, value string) error {
	switch value {
	case "unconfined":
		s.Seccomp = value
	case "default", "builtin":
		s.Seccomp = "default"
	default:
		path, err := host.Abs(value)
		if err != nil {
			return err
		}
		s.Seccomp = path
	}
	return nil
}

// labelOption parses label=disable and label=user:U (role, type, level).
func labelOption(s *containerizer.Security, option, value string) error {
	part, rest, _ := strings.Cut(value, ":")
	switch part {
	case "disable":
	case "user", "role", "type", "level":
		if rest == "" {
			return invalidf("--security-opt %q has no value for %q", option, part)
		}
	default:
		return invalidf("--security-opt %q: disable, user:, role:, type: or level:", option)
	}
	if s.SELinux == nil {
		s.SELinux = map[string]string{}
	}
	s.SELinux[part] = rest
	return nil
}

// maskOption adds paths to those masked by default.
func maskOption(s *containerizer.Security, option, value string) error {
	paths := append([]string{}, DefaultMaskedPaths()...)
	if s.MaskedPaths != nil {
		paths = *s.MaskedPaths
	}
	for p := range strings.SplitSeq(value, ":") {
		if !strings.HasPrefix(p, "/") {
			return invalidf("--security-opt %q: %q is not an absolute path", option, p)
		}
		paths = append(paths, p)
	}
	s.MaskedPaths = &paths
	return nil
}
