package cdi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	library "tags.cncf.io/container-device-interface/pkg/cdi"

	"github.com/berth-dev/berth/containerizer"
)

// Name is the isolator's name in messages.
const Name = "cdi"

// DefaultSpecDirs are the folders of the specification; later ones come first.
func DefaultSpecDirs() []string { return slices.Clone(library.DefaultSpecDirs) }

// Isolator contributes devices by name.
type Isolator struct{ dirs []string }

var (
	_ containerizer.Isolator = (*Isolator)(nil)
	_ containerizer.Adjuster = (*Isolator)(nil)
)

// New returns the isolator. dirs are the folders of specification files, those of later
// ones before those of earlier ones; nil is [DefaultSpecDirs]. They may be missing.
func New(dirs []string) *Isolator {
	if dirs == nil {
		dirs = DefaultSpecDirs()
	}
	return &Isolator{dirs}
}

// Name implements [containerizer.Isolator].
func (i *Isolator) Name() string { return Name }

// Cleanup implements [containerizer.Isolator]; there is nothing to release.
func (i *Isolator) Cleanup(context.Context, *containerizer.Container) error { return nil }

// AdjustUpdate implements [containerizer.Adjuster]: limits are not devices'.
func (i *Isolator) AdjustUpdate(_ context.Context, _ *containerizer.Container, r *containerizer.Resources) (*containerizer.Resources, error) {
	return r, nil
}

// Adjust implements [containerizer.Adjuster].
func (i *Isolator) Adjust(_ context.Context, c *containerizer.Container) (*containerizer.Spec, error) {
	if len(c.Spec.CDIDevices) == 0 {
		return c.Spec, nil
	}
	edits, err := i.resolve(c.Spec.CDIDevices)
	if err != nil {
		return nil, err
	}
	spec := *c.Spec
	if edits.Process != nil {
		spec.Process.Env = replaceEnv(spec.Process.Env, edits.Process.Env)
	}
	spec.Hooks = appendHooks(spec.Hooks, edits.Hooks)
	if spec.Mounts, err = replaceMounts(spec.Mounts, edits.Mounts); err != nil {
		return nil, err
	}
	if edits.Linux == nil {
		return &spec, nil
	}
	spec.Devices = slices.DeleteFunc(slices.Clone(spec.Devices), func(d containerizer.Device) bool {
		path := d.ContainerPath
		if path == "" {
			path = d.HostPath
		}
		return hasNode(edits.Linux.Devices, path)
	})
	if r := edits.Linux.Resources; r != nil {
		for _, rule := range r.Devices {
			if rule.Access != "" { // a node that may not be used
				spec.Resources.Linux.Devices = append(slices.Clip(spec.Resources.Linux.Devices), rule)
			}
		}
	}
	return &spec, nil
}

// Prepare implements [containerizer.Isolator].
func (i *Isolator) Prepare(_ context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	if len(c.Spec.CDIDevices) == 0 {
		return nil, nil
	}
	edits, err := i.resolve(c.Spec.CDIDevices)
	if err != nil {
		return nil, err
	}
	info := &containerizer.LaunchInfo{}
	if edits.Process != nil {
		info.AdditionalGIDs = edits.Process.User.AdditionalGids
	}
	// A /dev of somebody else is not ours to fill (isolators/device).
	theirs := c.Rootfs == nil || slices.ContainsFunc(c.Spec.Mounts, func(m containerizer.Mount) bool { return filepath.Clean(m.Destination) == "/dev" })
	if edits.Linux != nil && !theirs {
		info.Devices = edits.Linux.Devices
	}
	return info, nil
}

// resolve finds what the devices called names bring along.
func (i *Isolator) resolve(names []string) (*specs.Spec, error) {
	cache, err := library.NewCache(library.WithAutoRefresh(false), library.WithSpecDirs(i.dirs...))
	if err != nil {
		return nil, fmt.Errorf("read the device specifications: %w", err)
	}
	edits := &specs.Spec{}
	unresolved, err := cache.InjectDevices(edits, names...)
	switch {
	case len(unresolved) > 0:
		return nil, i.unknown(cache, unresolved)
	case err != nil:
		return nil, fmt.Errorf("device %s: %w: %w", quoted(names), err, containerizer.ErrInvalid)
	case edits.Linux == nil:
		return edits, nil
	case edits.Linux.IntelRdt != nil:
		return nil, fmt.Errorf("device %s: it wants Intel RDT: %w", quoted(names), containerizer.ErrUnsupported)
	case len(edits.Linux.NetDevices) > 0:
		return nil, fmt.Errorf("device %s: it brings network devices along: %w", quoted(names), containerizer.ErrUnsupported)
	}
	for _, d := range edits.Linux.Devices {
		if !filepath.IsAbs(d.Path) {
			return nil, fmt.Errorf("device %s: node %q is not an absolute path: %w", quoted(names), d.Path, containerizer.ErrInvalid)
		}
	}
	return edits, nil
}

// unknown says why there are no devices called names: nobody has them, or the files of
// those who might are damaged.
func (i *Isolator) unknown(cache *library.Cache, names []string) error {
	err := fmt.Errorf("device %s: no specification file in %s has it: %w", quoted(names), strings.Join(i.dirs, ", "), containerizer.ErrNotFound)
	damaged := cache.GetErrors()
	var all []string
	for _, path := range slices.Sorted(maps.Keys(damaged)) {
		all = append(all, fmt.Sprintf("%q: %s", path, oneLine(errors.Join(damaged[path]...))))
	}
	if len(all) > 0 {
		return fmt.Errorf("%w; not all of them can be used: %s", err, strings.Join(all, "; "))
	}
	return err
}

func quoted(names []string) string {
	var list []string
	for _, n := range names {
		list = append(list, fmt.Sprintf("%q", n))
	}
	return strings.Join(list, ", ")
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func hasNode(nodes []specs.LinuxDevice, path string) bool {
	return slices.ContainsFunc(nodes, func(n specs.LinuxDevice) bool { return filepath.Clean(n.Path) == filepath.Clean(path) })
}
