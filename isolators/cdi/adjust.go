package cdi

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// replaceEnv sets variables in place of those of the same name.
func replaceEnv(old, more []string) []string {
	out := slices.Clone(old)
	for _, kv := range more {
		key, _, _ := strings.Cut(kv, "=")
		out = slices.DeleteFunc(out, func(o string) bool { return strings.HasPrefix(o, key+"=") })
		out = append(out, kv)
	}
	return out
}

// appendHooks adds hooks after those that are there, and writes to neither.
func appendHooks(old, more *specs.Hooks) *specs.Hooks {
	if more == nil {
		return old
	}
	var out specs.Hooks
	if old != nil {
		out = *old
	}
	out.Prestart = slices.Concat(out.Prestart, more.Prestart) //nolint:staticcheck // deprecated, and in use
	out.CreateRuntime = slices.Concat(out.CreateRuntime, more.CreateRuntime)
	out.CreateContainer = slices.Concat(out.CreateContainer, more.CreateContainer)
	out.StartContainer = slices.Concat(out.StartContainer, more.StartContainer)
	out.Poststart = slices.Concat(out.Poststart, more.Poststart)
	out.Poststop = slices.Concat(out.Poststop, more.Poststop)
	return &out
}

// replaceMounts sets mounts in place of those on the same path.
func replaceMounts(old []containerizer.Mount, more []specs.Mount) ([]containerizer.Mount, error) {
	out := slices.Clone(old)
	for _, m := range more {
		mount, err := translate(m)
		if err != nil {
			return nil, err
		}
		out = slices.DeleteFunc(out, func(o containerizer.Mount) bool { return filepath.Clean(o.Destination) == mount.Destination })
		out = append(out, mount)
	}
	return out, nil
}

// translate reads a mount of a specification file, which is one of the host's unless it
// has another type.
func translate(m specs.Mount) (containerizer.Mount, error) {
	mount := containerizer.Mount{Source: m.Source, Destination: filepath.Clean(m.Destination), Options: slices.Clone(m.Options)}
	if !filepath.IsAbs(m.Destination) {
		return mount, fmt.Errorf("mount of %q on %q: the path in the container is not absolute: %w", m.Source, m.Destination, containerizer.ErrInvalid)
	}
	bind := slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
	switch m.Type {
	case "", "none", "bind":
		mount.Type = containerizer.MountBind
		if !bind {
			mount.Options = append(mount.Options, "rbind")
		}
	case "tmpfs":
		mount.Type, mount.Source = containerizer.MountTmpfs, ""
	default:
		mount.Type, mount.FSType = containerizer.MountFilesystem, m.Type
	}
	if bind {
		mount.Type, mount.FSType, mount.Source = containerizer.MountBind, "", m.Source
	}
	if mount.Type == containerizer.MountBind && !filepath.IsAbs(mount.Source) {
		return mount, fmt.Errorf("mount of %q on %q: the path on the host is not absolute: %w", m.Source, m.Destination, containerizer.ErrInvalid)
	}
	return mount, nil
}
