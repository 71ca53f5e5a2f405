package launcher

import (
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch"
)

// pivotDir is where the root filesystem is mounted before it is the root. With hooks
// the rest of the container's directory must stay in sight.
func pivotDir(c *containerizer.Container, info *containerizer.LaunchInfo) string {
	if info.Hooks == nil {
		return c.Dir
	}
	return filepath.Join(bundle(c.Dir), bundleRootfs)
}

// ociConfig is a launch in the form of the runtime specification, for hooks that look
// into the bundle. Nothing reads it back.
func ociConfig(c *containerizer.Container, cfg *launch.Config) *specs.Spec {
	info, p := cfg.Info, &cfg.Process
	out := &specs.Spec{
		Version:  specs.Version,
		Hostname: info.Hostname, Domainname: info.Domainname,
		Root:        &specs.Root{Path: cfg.PivotDir, Readonly: info.ReadonlyRootfs},
		Mounts:      info.Mounts,
		Hooks:       info.Hooks,
		Annotations: c.Spec.Annotations,
		Process: &specs.Process{
			Terminal: p.Terminal, Args: p.Args, Env: p.Env, Cwd: p.WorkingDir,
			User:         specs.User{UID: p.UID, GID: p.GID, AdditionalGids: p.Groups, Umask: &p.Umask},
			Capabilities: p.Capabilities, Rlimits: p.Rlimits, NoNewPrivileges: p.NoNewPrivileges,
			ApparmorProfile: p.AppArmorProfile, SelinuxLabel: p.SELinuxLabel, OOMScoreAdj: p.OOMScoreAdj,
			Scheduler: p.Scheduler, IOPriority: p.IOPriority,
		},
		Linux: &specs.Linux{
			Namespaces: info.Namespaces, UIDMappings: info.UIDMappings, GIDMappings: info.GIDMappings, TimeOffsets: info.TimeOffsets,
			Sysctl: info.Sysctl, Resources: &c.Spec.Resources.Linux, Devices: info.Devices, Seccomp: info.Seccomp,
			RootfsPropagation: info.RootfsPropagation, MaskedPaths: info.MaskedPaths, ReadonlyPaths: info.ReadonlyPaths, MountLabel: info.SELinuxMountLabel,
		},
	}
	if out.Process.OOMScoreAdj == nil {
		out.Process.OOMScoreAdj = info.OOMScoreAdj
	}
	return out
}
