package launcher

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch"
)

// foreignVersion of the runtime specification is one that every runtime knows.
const foreignVersion = "1.0.2"

// config is the bundle's config.json. layers are the mounts that it binds from the
// bundle, which are made before the runtime is executed.
func (f *foreign) config(c *containerizer.Container, cfg *launch.Config) (config *specs.Spec, layers []containerizer.LayerMount, err error) {
	config = ociConfig(c, cfg)
	config.Version = foreignVersion
	config.Root.Path = f.rootfs()
	if config.Process, err = foreignProcess(cfg); err != nil {
		return nil, nil, err
	}
	if config.Process.OOMScoreAdj == nil {
		config.Process.OOMScoreAdj = cfg.Info.OOMScoreAdj
	}
	config.Linux.CgroupsPath = f.Cgroup
	config.Linux.Resources = &specs.LinuxResources{Devices: foreignDeviceRules(c, cfg.Info)}
	config.Mounts = foreignMounts(cfg.Info.Mounts)
	for i, l := range cfg.Info.LayerMounts {
		source, err := f.layerPlace(cfg, i)
		if err != nil {
			return nil, nil, fmt.Errorf("mount on %q: %w", l.Destination, err)
		}
		config.Mounts = append(config.Mounts, specs.Mount{Type: "bind", Source: source, Destination: l.Destination, Options: append([]string{"rbind"}, l.Options...)})
		l.Destination = source
		layers = append(layers, l)
	}
	slices.SortStableFunc(config.Mounts, func(a, b specs.Mount) int {
		return strings.Count(filepath.Clean(a.Destination), "/") - strings.Count(filepath.Clean(b.Destination), "/")
	})
	return config, layers, nil
}

// layerPlace makes the directory or file on which layer mount i is mounted.
func (f *foreign) layerPlace(cfg *launch.Config, i int) (string, error) {
	dir, err := launch.LayerIsDir(cfg, i)
	if err != nil {
		return "", err
	}
	path := filepath.Join(f.dir, "mounts", strconv.Itoa(i))
	if dir {
		return path, os.MkdirAll(path, 0o700)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, nil, 0o600)
}

// foreignMounts says of bind mounts by an option that they are, as not all runtimes go
// by the type.
func foreignMounts(list []specs.Mount) []specs.Mount {
	out := slices.Clone(list)
	for i, m := range out {
		if m.Type == "bind" && !slices.Contains(m.Options, "bind") && !slices.Contains(m.Options, "rbind") {
			out[i].Options = append([]string{"bind"}, m.Options...)
		}
	}
	return out
}

// foreignProcess is a resolved process in the form of the runtime specification.
func foreignProcess(cfg *launch.Config) (*specs.Process, error) {
	p := &cfg.Process
	out := &specs.Process{
		Terminal: p.Terminal, Args: p.Args, Env: p.Env, Cwd: p.WorkingDir,
		User:         specs.User{UID: p.UID, GID: p.GID, AdditionalGids: p.Groups, Umask: &p.Umask},
		Capabilities: p.Capabilities, Rlimits: p.Rlimits, NoNewPrivileges: p.NoNewPrivileges,
		ApparmorProfile: p.AppArmorProfile, SelinuxLabel: p.SELinuxLabel, OOMScoreAdj: p.OOMScoreAdj,
		Scheduler: p.Scheduler, IOPriority: p.IOPriority,
	}
	if out.Cwd == "" {
		out.Cwd = "/"
	}
	if p.Terminal && p.Size != (containerizer.Size{}) {
		out.ConsoleSize = &specs.Box{Width: uint(p.Size.Columns), Height: uint(p.Size.Rows)}
	}
	own, err := ownCapabilities()
	if err != nil {
		return nil, err
	}
	have := launch.CapabilityNames(own)
	if out.Capabilities == nil {
		out.Capabilities = &specs.LinuxCapabilities{Bounding: have, Effective: have, Permitted: have}
	} else if cfg.Available != 0 { // as many as there are
		out.Capabilities = &specs.LinuxCapabilities{
			Bounding: both(out.Capabilities.Bounding, have), Effective: both(out.Capabilities.Effective, have),
			Permitted: both(out.Capabilities.Permitted, have), Inheritable: both(out.Capabilities.Inheritable, have), Ambient: both(out.Capabilities.Ambient, have),
		}
	}
	return out, nil
}

func both(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return !slices.Contains(b, s) })
}

// foreignDeviceRules are those that the isolators' control groups have as well
// (isolators/cgroup): runtimes set theirs in any case.
func foreignDeviceRules(c *containerizer.Container, info *containerizer.LaunchInfo) []specs.LinuxDeviceCgroup {
	if c.Spec.Security.Privileged {
		return []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	}
	rules := []specs.LinuxDeviceCgroup{{Access: "rwm"}, {Allow: true, Type: "c", Access: "m"}, {Allow: true, Type: "b", Access: "m"}}
	for _, d := range [][2]int64{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 2}, {136, -1}} {
		rule := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &d[0], Access: "rwm"}
		if d[1] >= 0 {
			rule.Minor = &d[1]
		}
		rules = append(rules, rule)
	}
	return slices.Concat(rules, c.Spec.Resources.Linux.Devices, info.DeviceRules)
}

func shared(propagation uint64) bool { return propagation&unix.MS_SHARED != 0 }

// cgroupsPath is the path of the control groups below the root of each hierarchy. With
// version 1 that of device rules may be another (isolators/cgroup); the runtime makes
// its own there.
func cgroupsPath(a *containerizer.CgroupAttachment) (string, error) {
	switch {
	case a == nil:
		return "", nil
	case a.Unified != "":
		if path, ok := strings.CutPrefix(a.Unified, cgroupRoot+"/"); ok {
			return "/" + path, nil
		}
		return "", fmt.Errorf("control group %q is not below %q: %w", a.Unified, cgroupRoot, containerizer.ErrUnsupported)
	}
	path := ""
	for _, dir := range a.Legacy {
		rest, ok := strings.CutPrefix(dir, cgroupRoot+"/")
		hierarchy, rest, found := strings.Cut(rest, "/")
		if !ok || !found {
			return "", fmt.Errorf("control group %q is not below %q: %w", dir, cgroupRoot, containerizer.ErrUnsupported)
		}
		if hierarchy == "devices" {
			continue
		}
		if path != "" && path != "/"+rest {
			return "", fmt.Errorf("control groups %q and %q differ by hierarchy: %w", path, "/"+rest, containerizer.ErrUnsupported)
		}
		path = "/" + rest
	}
	return path, nil
}

// removeGroups removes groups that a runtime has made and not removed: it makes one in
// every hierarchy of version 1.
func removeGroups(path string) error {
	if path == "" || filepath.Clean(path) == "/" {
		return nil
	}
	found, err := filepath.Glob(cgroupRoot + "/*" + path)
	if err != nil {
		return nil //nolint:nilerr // a pattern of the path's own: there is no such group
	}
	var errs []error
	for _, dir := range found {
		if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EROFS) {
			errs = append(errs, fmt.Errorf("remove the control group %q: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}
