package containerizer

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Rootfs says how a root filesystem is put together. It is a description: the
// launcher mounts it, detached from the host's mount table, at every start.
// Exactly one of Path and Lower is set.
type Rootfs struct {
	// Path is a directory used as it is.
	Path string `json:"path,omitempty"`
	// Lower are layer directories in overlayfs form (whiteouts are character
	// devices 0:0, opaque directories carry trusted.overlay.opaque), topmost first.
	Lower []string `json:"lower,omitempty"`
	// Upper and Work are the writable layer; both empty for a read-only root.
	Upper string `json:"upper,omitempty"`
	Work  string `json:"work,omitempty"`
	// Volatile skips every sync of the upper directory (overlayfs "volatile",
	// kernel 5.10). After a crash of the node the upper directory is thrown away.
	Volatile bool `json:"volatile,omitempty"`
	// IDMapped asks for the mappings of the container's user namespace to be
	// applied to the mount (mount_setattr(2), kernel 5.12; layers of an overlay
	// 5.19), so that ids on disk stay those of the image.
	IDMapped bool `json:"idMapped,omitempty"`
}

// CgroupAttachment names the control groups a process starts in. Paths are those
// of directories in the host's cgroup filesystem.
type CgroupAttachment struct {
	// Unified is the directory in the version 2 hierarchy, "" when version 1 is
	// used. The process is cloned into it (CLONE_INTO_CGROUP, kernel 5.7).
	Unified string `json:"unified,omitempty"`
	// Legacy are the directories in the version 1 hierarchies. The process moves
	// itself by writing 0 to their tasks files.
	Legacy []string `json:"legacy,omitempty"`
}

// LaunchInfo is what isolators contribute to a launch, in the runtime
// specification's own types. Merged over all isolators it is a complete
// description of the processes' surroundings. Mount sources are absolute host
// paths; destinations are container paths.
type LaunchInfo struct {
	Rootfs            *Rootfs `json:"rootfs,omitempty"`
	ReadonlyRootfs    bool    `json:"readonlyRootfs,omitempty"`
	RootfsPropagation string  `json:"rootfsPropagation,omitempty"`

	// Namespaces: an empty Path makes a new one, another joins it. A kind that is
	// not listed stays the host's.
	Namespaces  []specs.LinuxNamespace           `json:"namespaces,omitempty"`
	UIDMappings []specs.LinuxIDMapping           `json:"uidMappings,omitempty"`
	GIDMappings []specs.LinuxIDMapping           `json:"gidMappings,omitempty"`
	TimeOffsets map[string]specs.LinuxTimeOffset `json:"timeOffsets,omitempty"`
	Cgroup      *CgroupAttachment                `json:"cgroup,omitempty"`

	// Mounts in the runtime specification's form (config.md, "Mounts"), with the
	// options "rro", "idmap", "ridmap" as in its Linux section.
	Mounts []specs.Mount `json:"mounts,omitempty"`
	// LayerMounts are mounts put together like a root filesystem: content of images,
	// or a part of a directory that must not be left by a symbolic link.
	LayerMounts   []LayerMount `json:"layerMounts,omitempty"`
	MaskedPaths   []string     `json:"maskedPaths,omitempty"`
	ReadonlyPaths []string     `json:"readonlyPaths,omitempty"`
	// Devices are nodes to create; DeviceRules is what the cgroup is to allow or deny.
	Devices     []specs.LinuxDevice       `json:"devices,omitempty"`
	DeviceRules []specs.LinuxDeviceCgroup `json:"deviceRules,omitempty"`

	Hostname   string            `json:"hostname,omitempty"`
	Domainname string            `json:"domainname,omitempty"`
	Sysctl     map[string]string `json:"sysctl,omitempty"`
	// LoopbackUp brings lo up in a new network namespace.
	LoopbackUp bool `json:"loopbackUp,omitempty"`
	// Barrier holds the process after its namespaces exist and before anything of
	// the container runs, until the Isolate of every isolator has returned.
	Barrier bool `json:"barrier,omitempty"`

	// Env is put before the user's environment, which overrides it.
	Env               []string                 `json:"env,omitempty"`
	Rlimits           []specs.POSIXRlimit      `json:"rlimits,omitempty"`
	OOMScoreAdj       *int                     `json:"oomScoreAdj,omitempty"`
	Capabilities      *specs.LinuxCapabilities `json:"capabilities,omitempty"`
	NoNewPrivileges   bool                     `json:"noNewPrivileges,omitempty"`
	Seccomp           *specs.LinuxSeccomp      `json:"seccomp,omitempty"`
	AppArmorProfile   string                   `json:"appArmorProfile,omitempty"`
	SELinuxLabel      string                   `json:"seLinuxLabel,omitempty"`
	SELinuxMountLabel string                   `json:"seLinuxMountLabel,omitempty"`
	AdditionalGIDs    []uint32                 `json:"additionalGIDs,omitempty"`
	Hooks             *specs.Hooks             `json:"hooks,omitempty"`
}

// LayerMount mounts a Rootfs, or a part of it, somewhere in a container.
type LayerMount struct {
	Rootfs Rootfs `json:"rootfs"`
	// SubPath selects a directory or file in it; symbolic links cannot lead out.
	SubPath     string `json:"subPath,omitempty"`
	Destination string `json:"destination"`
	// Options as of a bind mount.
	Options []string `json:"options,omitempty"`
}

// Contribution is the launch information of one isolator.
type Contribution struct {
	Isolator string
	Info     *LaunchInfo
}

// MergeLaunchInfo merges contributions in their order. Lists are appended,
// booleans or-ed. Two contributions that set one single-valued field, namespace,
// mount destination, device, sysctl or rlimit, to equal values or not, are an error
// that names both. Mounts are sorted by depth of their destination, equal depths
// in order of contribution.
func MergeLaunchInfo(contributions []Contribution) (*LaunchInfo, error) {
	var m Merger
	for _, c := range contributions {
		m.Add(c)
	}
	return m.Merged()
}

// Merger is [MergeLaunchInfo] one contribution at a time. The zero value is ready.
type Merger struct{ m merger }

// Add merges one more contribution.
func (m *Merger) Add(c Contribution) {
	if c.Info == nil {
		return
	}
	if m.m.owner == nil {
		m.m.owner = map[string]string{}
	}
	m.m.isolator = c.Isolator
	m.m.add(c.Info)
}

// Merged returns what was merged so far, or all conflicts. Its value does not
// change with later contributions; it must not be written to.
func (m *Merger) Merged() (*LaunchInfo, error) {
	if len(m.m.conflicts) > 0 {
		return nil, errors.Join(m.m.conflicts...)
	}
	out := m.m.out
	out.Mounts = slices.Clone(out.Mounts)
	slices.SortStableFunc(out.Mounts, func(a, b specs.Mount) int {
		return depth(a.Destination) - depth(b.Destination)
	})
	out.TimeOffsets, out.Sysctl = maps.Clone(out.TimeOffsets), maps.Clone(out.Sysctl)
	return &out, nil
}

func depth(p string) int {
	p = path.Clean(p)
	if p == "/" {
		return 0
	}
	return strings.Count(p, "/")
}

// merger accumulates contributions and remembers who set what.
type merger struct {
	out       LaunchInfo
	isolator  string            // whose contribution is being added
	owner     map[string]string // field -> isolator that set it
	conflicts []error
}

// claim notes that the current isolator sets field; it is false and a conflict
// when it is set.
func (m *merger) claim(field string) bool {
	switch first, taken := m.owner[field]; {
	case taken && first == m.isolator:
		m.conflicts = append(m.conflicts, fmt.Errorf("isolator %q sets %s twice: %w", first, field, ErrInvalid))
		return false
	case taken:
		m.conflicts = append(m.conflicts, fmt.Errorf("isolators %q and %q both set %s: %w", first, m.isolator, field, ErrInvalid))
		return false
	}
	m.owner[field] = m.isolator
	return true
}

func single[T any](m *merger, field string, dst **T, src *T) {
	if src != nil && m.claim(field) {
		*dst = src
	}
}

func text(m *merger, field string, dst *string, src string) {
	if src != "" && m.claim(field) {
		*dst = src
	}
}

func list[T any](m *merger, field string, dst *[]T, src []T) {
	if len(src) > 0 && m.claim(field) {
		*dst = src
	}
}

func keyed[V any](m *merger, field string, dst *map[string]V, src map[string]V) {
	for _, k := range slices.Sorted(maps.Keys(src)) {
		if !m.claim(field + " " + k) {
			continue
		}
		if *dst == nil {
			*dst = map[string]V{}
		}
		(*dst)[k] = src[k]
	}
}

func (m *merger) add(in *LaunchInfo) {
	out := &m.out
	single(m, "the root filesystem", &out.Rootfs, in.Rootfs)
	text(m, "the propagation of the root filesystem", &out.RootfsPropagation, in.RootfsPropagation)
	out.ReadonlyRootfs = out.ReadonlyRootfs || in.ReadonlyRootfs
	list(m, "the uid mappings", &out.UIDMappings, in.UIDMappings)
	list(m, "the gid mappings", &out.GIDMappings, in.GIDMappings)
	keyed(m, "the time offset of", &out.TimeOffsets, in.TimeOffsets)
	single(m, "the cgroup", &out.Cgroup, in.Cgroup)
	for _, ns := range in.Namespaces {
		if m.claim("the namespace " + string(ns.Type)) {
			out.Namespaces = append(out.Namespaces, ns)
		}
	}
	for _, mount := range in.Mounts {
		if m.claim("the mount on " + path.Clean(mount.Destination)) {
			out.Mounts = append(out.Mounts, mount)
		}
	}
	for _, mount := range in.LayerMounts {
		if m.claim("the mount on " + path.Clean(mount.Destination)) {
			out.LayerMounts = append(out.LayerMounts, mount)
		}
	}
	for _, d := range in.Devices {
		if m.claim("the device " + path.Clean(d.Path)) {
			out.Devices = append(out.Devices, d)
		}
	}
	out.MaskedPaths = append(out.MaskedPaths, in.MaskedPaths...)
	out.ReadonlyPaths = append(out.ReadonlyPaths, in.ReadonlyPaths...)
	out.DeviceRules = append(out.DeviceRules, in.DeviceRules...)
	text(m, "the hostname", &out.Hostname, in.Hostname)
	text(m, "the domain name", &out.Domainname, in.Domainname)
	keyed(m, "the sysctl", &out.Sysctl, in.Sysctl)
	out.LoopbackUp = out.LoopbackUp || in.LoopbackUp
	out.Barrier = out.Barrier || in.Barrier
	m.addProcess(in)
}

func (m *merger) addProcess(in *LaunchInfo) {
	out := &m.out
	out.Env = append(out.Env, in.Env...)
	for _, r := range in.Rlimits {
		if m.claim("the limit " + r.Type) {
			out.Rlimits = append(out.Rlimits, r)
		}
	}
	single(m, "the OOM score adjustment", &out.OOMScoreAdj, in.OOMScoreAdj)
	single(m, "the capabilities", &out.Capabilities, in.Capabilities)
	out.NoNewPrivileges = out.NoNewPrivileges || in.NoNewPrivileges
	single(m, "the seccomp profile", &out.Seccomp, in.Seccomp)
	text(m, "the AppArmor profile", &out.AppArmorProfile, in.AppArmorProfile)
	text(m, "the SELinux label", &out.SELinuxLabel, in.SELinuxLabel)
	text(m, "the SELinux mount label", &out.SELinuxMountLabel, in.SELinuxMountLabel)
	out.AdditionalGIDs = append(out.AdditionalGIDs, in.AdditionalGIDs...)
	if in.Hooks != nil {
		out.Hooks = appendHooks(out.Hooks, in.Hooks)
	}
}

func appendHooks(a, b *specs.Hooks) *specs.Hooks {
	var h specs.Hooks
	if a != nil {
		h = *a
	}
	h.Prestart = append(h.Prestart, b.Prestart...) //nolint:staticcheck // deprecated, still part of the specification
	h.CreateRuntime = append(h.CreateRuntime, b.CreateRuntime...)
	h.CreateContainer = append(h.CreateContainer, b.CreateContainer...)
	h.StartContainer = append(h.StartContainer, b.StartContainer...)
	h.Poststart = append(h.Poststart, b.Poststart...)
	h.Poststop = append(h.Poststop, b.Poststop...)
	return &h
}
