package containerizer

import (
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Class says what kind of container a [Spec] describes.
type Class string

const (
	// ClassDefault is a container with a process, a root filesystem and limits of its own.
	ClassDefault Class = ""
	// ClassPodSandbox is a root that holds namespaces, cgroup and network for its
	// children. It has no process unless its pid namespace is shared (then a
	// mini-init).
	ClassPodSandbox Class = "pod-sandbox"
)

// Spec describes a container: a superset of what Docker, CRI, Mesos and the OCI
// runtime specification can express. The zero value of every field is a sane
// default. Paths on the host are absolute. A Spec is immutable once handed over,
// but for Resources (see Engine.Update). Secrets never go in here: it is
// written to disk.
type Spec struct {
	// Name is unique among root containers of a node; "" for none.
	Name        string            `json:"name,omitempty"`
	Class       Class             `json:"class,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`

	Image *ImageSource `json:"image,omitempty"`
	// RootfsPath is a directory used as the root filesystem as it is, instead of
	// an image. Neither of both: a child shares its parent's root filesystem, in a copy
	// of the parent's mount namespace as it is at the launch: the child has masked and
	// read-only paths of its own, and /proc, /sys and /dev/shm of its own namespaces.
	RootfsPath string `json:"rootfsPath,omitempty"`
	// ReadonlyRootfs mounts / read-only.
	ReadonlyRootfs bool `json:"readonlyRootfs,omitempty"`
	// RootfsPropagation is a propagation mode of mount(8), such as "rslave"; "" is "rprivate".
	RootfsPropagation string `json:"rootfsPropagation,omitempty"`

	Process    Process      `json:"process"`
	Namespaces Namespaces   `json:"namespaces"`
	Resources  Resources    `json:"resources"`
	Mounts     []Mount      `json:"mounts,omitempty"`
	Devices    []Device     `json:"devices,omitempty"`
	CDIDevices []string     `json:"cdiDevices,omitempty"` // "vendor.com/class=name"
	Security   Security     `json:"security"`
	Network    Network      `json:"network"`
	Log        LogConfig    `json:"log"`
	Hooks      *specs.Hooks `json:"hooks,omitempty"`
	// Artifacts are fetched into the sandbox before the process starts for the first
	// time. A mount of type MountSandboxPath makes them visible. They are recorded like
	// the rest: a URI with a secret in it can be read by whoever inspects the container.
	Artifacts []Artifact `json:"artifacts,omitempty"`
	// Sysctls are set in the container's namespaces, by name ("net.ipv4.ip_forward").
	Sysctls map[string]string `json:"sysctls,omitempty"`

	// CgroupParent is an absolute path below the cgroup root (cgroupfs driver) or
	// the name of a slice (systemd driver); "" is the isolator's default.
	CgroupParent string `json:"cgroupParent,omitempty"`
	// ShareCgroup puts a child into its parent's cgroup, as Mesos's share_cgroups.
	ShareCgroup bool `json:"shareCgroup,omitempty"`

	// StopSignal is a name ("SIGTERM") or number; "" is the image's, else SIGTERM.
	StopSignal string `json:"stopSignal,omitempty"`
	// StopTimeout is how long stop waits before SIGKILL; nil is 10 s.
	StopTimeout *time.Duration `json:"stopTimeout,omitempty"`
	// AutoRemove destroys the container once it has exited, whoever watches.
	AutoRemove bool `json:"autoRemove,omitempty"`
	// Runtime is the name of a configured OCI runtime; "" is the native launcher.
	Runtime string `json:"runtime,omitempty"`
	// Origin is set by the adapter through which the container came.
	Origin *Origin `json:"origin,omitempty"`
}

// AnnotationAnonymousVolumes lists, comma separated, the volumes among Spec.Mounts that
// were made for the container alone. With AutoRemove they go with it.
const AnnotationAnonymousVolumes = "berth.volumes.anonymous"

// Origin tells who asked for a container, and in which words: an adapter has no records
// of its own, and finds here what a scheduler wants to see again.
type Origin struct {
	// Adapter is the adapter's name, such as "cri".
	Adapter string `json:"adapter"`
	// Data is in a form of the adapter's own. Nobody else looks at it.
	Data []byte `json:"data,omitempty"`
}

// PullPolicy says when an image is fetched.
type PullPolicy string

// Pull policies. The zero value is PullMissing.
const (
	PullMissing PullPolicy = ""
	PullAlways  PullPolicy = "always"
	PullNever   PullPolicy = "never"
)

// ImageSource names the image of a container or a volume.
type ImageSource struct {
	// Reference is in the form users write: "debian:12", "docker://…", "oci:DIR:tag".
	Reference string `json:"reference"`
	// Platform is "os/arch[/variant]"; "" is the node's.
	Platform string     `json:"platform,omitempty"`
	Pull     PullPolicy `json:"pull,omitempty"`
	// Auth is for fetching it, and is never written down; nil is what the node's
	// configuration files say.
	Auth *RegistryAuth `json:"-"`
	// ReadOnly gives the image's content without a writable layer.
	ReadOnly bool `json:"readOnly,omitempty"`
	// Durable keeps the writable layer when the node goes down, at the price of its
	// syncs. Without it the layer is good for one boot.
	Durable bool `json:"durable,omitempty"`
}

// GroupsPolicy says which supplementary groups a process gets
// (CRI SupplementalGroupsPolicy).
type GroupsPolicy string

const (
	// GroupsMerge adds the user's groups of the image's /etc/group to AdditionalGroups.
	GroupsMerge GroupsPolicy = ""
	// GroupsStrict uses AdditionalGroups only.
	GroupsStrict GroupsPolicy = "strict"
)

// Process is what runs in a container, or in an exec session.
type Process struct {
	// Entrypoint replaces the image's ENTRYPOINT, and its CMD with it; nil keeps it.
	Entrypoint []string `json:"entrypoint,omitempty"`
	// Args replace the image's CMD; nil keeps it.
	Args []string `json:"args,omitempty"`
	// Env are KEY=VALUE, later ones override earlier ones and the image's. Values
	// are bytes: anything but NUL.
	Env []string `json:"env,omitempty"`
	// WorkingDir is created when missing; "" is the image's, else "/".
	WorkingDir string `json:"workingDir,omitempty"`
	// User is "uid[:gid]" or "name[:group]", names resolved in the root filesystem;
	// "" is the image's, else root.
	User string `json:"user,omitempty"`
	// AdditionalGroups are group ids or names.
	AdditionalGroups []string     `json:"additionalGroups,omitempty"`
	GroupsPolicy     GroupsPolicy `json:"groupsPolicy,omitempty"`
	Umask            *uint32      `json:"umask,omitempty"`
	// Terminal gives the process a pty; stdout and stderr are one stream then.
	Terminal    bool       `json:"terminal,omitempty"`
	ConsoleSize *specs.Box `json:"consoleSize,omitempty"`
	// Stdin keeps standard input open for attaching; without it, it is /dev/null.
	Stdin bool `json:"stdin,omitempty"`
	// StdinOnce closes standard input when the first client that wrote leaves.
	StdinOnce bool `json:"stdinOnce,omitempty"`
	// Init runs a mini-init as pid 1 that reaps and forwards signals.
	Init        bool                   `json:"init,omitempty"`
	Rlimits     []specs.POSIXRlimit    `json:"rlimits,omitempty"`
	OOMScoreAdj *int                   `json:"oomScoreAdj,omitempty"`
	Scheduler   *specs.Scheduler       `json:"scheduler,omitempty"`
	IOPriority  *specs.LinuxIOPriority `json:"ioPriority,omitempty"`
	// Privileged gives an exec session all capabilities; a container's privilege is
	// in Spec.Security.
	Privileged bool `json:"privileged,omitempty"`
}

// NamespaceMode says where a namespace of a container comes from.
type NamespaceMode string

const (
	// NamespaceDefault is NamespacePrivate, but for children NamespaceParent for
	// network, ipc, uts and user.
	NamespaceDefault NamespaceMode = ""
	// NamespacePrivate makes a new one.
	NamespacePrivate NamespaceMode = "private"
	// NamespaceParent joins the parent container's.
	NamespaceParent NamespaceMode = "parent"
	// NamespaceContainer joins that of Namespace.Container.
	NamespaceContainer NamespaceMode = "container"
	// NamespaceHost stays in the host's.
	NamespaceHost NamespaceMode = "host"
	// NamespacePath joins the namespace file Namespace.Path (namespaces(7)).
	NamespacePath NamespaceMode = "path"
)

// Namespace is the choice for one kind of namespace.
type Namespace struct {
	Mode      NamespaceMode `json:"mode,omitempty"`
	Container ContainerID   `json:"container,omitempty"`
	Path      string        `json:"path,omitempty"`
}

// Namespaces are a container's choices. The mount namespace is always private; that of a
// child without a root filesystem begins as a copy of its parent's.
type Namespaces struct {
	Network Namespace `json:"network,omitzero"`
	PID     Namespace `json:"pid,omitzero"`
	IPC     Namespace `json:"ipc,omitzero"`
	UTS     Namespace `json:"uts,omitzero"`
	Cgroup  Namespace `json:"cgroup,omitzero"`
	Time    Namespace `json:"time,omitzero"` // default: host
	User    Namespace `json:"user,omitzero"` // default: host
	// UIDMappings and GIDMappings go with a private user namespace.
	UIDMappings []specs.LinuxIDMapping `json:"uidMappings,omitempty"`
	GIDMappings []specs.LinuxIDMapping `json:"gidMappings,omitempty"`
	// TimeOffsets go with a private time namespace, by clock ("monotonic", "boottime").
	TimeOffsets map[string]specs.LinuxTimeOffset `json:"timeOffsets,omitempty"`
}

// NetworkNamespace is the choice of the network namespace, with what Network.None makes
// of the default.
func (s *Spec) NetworkNamespace() Namespace {
	n := s.Namespaces.Network
	if n.Mode == NamespaceDefault && s.Network.None {
		n.Mode = NamespacePrivate
	}
	return n
}

// Resources are a container's limits in the runtime specification's own form
// (config-linux.md, "Control groups"), and what it lacks.
type Resources struct {
	Linux specs.LinuxResources `json:"linux"`
	// DiskBytes bounds what the container may write to its root filesystem; 0 is no bound.
	DiskBytes int64 `json:"diskBytes,omitempty"`
}

// MountType says what a [Mount] mounts.
type MountType string

// Types of mounts.
const (
	MountBind   MountType = "bind"   // Source is a path on the host
	MountTmpfs  MountType = "tmpfs"  // Options as tmpfs(5): size=, mode=, …
	MountImage  MountType = "image"  // content of Image
	MountVolume MountType = "volume" // Source is the name of a volume of this node
	// MountSandboxPath binds Source, a path relative to the sandbox directory of
	// the container, or of the parent when it begins with "parent:".
	MountSandboxPath MountType = "sandbox-path"
	// MountFilesystem mounts the kernel filesystem FSType from Source.
	MountFilesystem MountType = "filesystem"
)

// Mount is one mount of a container, applied in order of path depth. A mount on
// the path of a default mount replaces it.
type Mount struct {
	Type MountType `json:"type"`
	// Source: see MountType.
	Source string `json:"source,omitempty"`
	// Destination is an absolute path in the container; symbolic links in it are
	// resolved inside the root filesystem. It is created when missing.
	Destination string `json:"destination"`
	// Options are those of mount(8) and the runtime specification: "ro", "rro",
	// "noexec", "rshared", "idmap", … and filesystem data.
	Options []string `json:"options,omitempty"`
	// FSType goes with MountFilesystem.
	FSType string `json:"fsType,omitempty"`
	// CreateSource makes a missing source directory on the host (docker run -v).
	CreateSource bool         `json:"createSource,omitempty"`
	Image        *ImageSource `json:"image,omitempty"`
	// SubPath selects a directory or file within the image or volume; it cannot
	// leave it.
	SubPath string `json:"subPath,omitempty"`
	// Relabel is the SELinux relabelling asked for: "", "shared" (z) or "private" (Z).
	Relabel     string                 `json:"relabel,omitempty"`
	UIDMappings []specs.LinuxIDMapping `json:"uidMappings,omitempty"`
	GIDMappings []specs.LinuxIDMapping `json:"gidMappings,omitempty"`
}

// Device gives a container a device node of the host and the right to use it.
type Device struct {
	// HostPath is a device node, or a directory of them.
	HostPath string `json:"hostPath"`
	// ContainerPath is where it appears; "" is HostPath.
	ContainerPath string `json:"containerPath,omitempty"`
	// Permissions are letters of "rwm"; "" is "rwm".
	Permissions string `json:"permissions,omitempty"`
}

// Security is a container's privilege.
type Security struct {
	// Privileged lifts every restriction: all capabilities and devices, nothing
	// masked, no seccomp, AppArmor or SELinux confinement.
	Privileged bool `json:"privileged,omitempty"`
	// CapAdd and CapDrop change the default set; names with or without CAP_, any
	// case, or ALL. A drop beats an add of the same name.
	CapAdd     []string `json:"capAdd,omitempty"`
	CapDrop    []string `json:"capDrop,omitempty"`
	CapAmbient []string `json:"capAmbient,omitempty"`

	NoNewPrivileges bool `json:"noNewPrivileges,omitempty"`
	// Seccomp is "" or "default" for berth's profile, "unconfined", or an absolute
	// path to a profile in Docker's or the runtime specification's JSON.
	Seccomp string `json:"seccomp,omitempty"`
	// AppArmor is "" for the default profile where the kernel has AppArmor,
	// "unconfined", or the name of a loaded profile.
	AppArmor string `json:"appArmor,omitempty"`
	// SELinux holds label parts: user, role, type, level; or "disable".
	SELinux map[string]string `json:"seLinux,omitempty"`
	// MaskedPaths and ReadonlyPaths replace the default lists; nil keeps them, an
	// empty list clears them.
	MaskedPaths   *[]string `json:"maskedPaths,omitempty"`
	ReadonlyPaths *[]string `json:"readonlyPaths,omitempty"`
}

// Protocol of a published port.
type Protocol string

// Protocols a port can be published for.
const (
	ProtocolTCP  Protocol = "tcp"
	ProtocolUDP  Protocol = "udp"
	ProtocolSCTP Protocol = "sctp"
)

// PortMapping publishes a container's port on the host.
type PortMapping struct {
	Protocol      Protocol `json:"protocol"`
	ContainerPort uint16   `json:"containerPort"`
	HostPort      uint16   `json:"hostPort"`         // 0: one is chosen
	HostIP        string   `json:"hostIP,omitempty"` // "": all addresses
}

// NetworkAttachment joins a container to one configured network.
type NetworkAttachment struct {
	// Name of a CNI network; "" is the default one.
	Name       string            `json:"name,omitempty"`
	IfName     string            `json:"ifName,omitempty"`
	IPs        []string          `json:"ips,omitempty"`
	MAC        string            `json:"mac,omitempty"`
	Aliases    []string          `json:"aliases,omitempty"`
	Args       map[string]string `json:"args,omitempty"`       // CNI_ARGS
	Capability map[string]any    `json:"capability,omitempty"` // CNI capability arguments
}

// Network is a container's network within the namespace that
// Namespaces.Network chooses. It is configured for private namespaces only.
type Network struct {
	// None leaves a private namespace with loopback only, which is then the default for
	// children, too.
	None     bool                `json:"none,omitempty"`
	Networks []NetworkAttachment `json:"networks,omitempty"` // none: the default network
	Ports    []PortMapping       `json:"ports,omitempty"`

	Hostname   string   `json:"hostname,omitempty"` // "": the first 12 bytes of the id
	Domainname string   `json:"domainname,omitempty"`
	DNSServers []string `json:"dnsServers,omitempty"` // empty: the host's
	DNSSearch  []string `json:"dnsSearch,omitempty"`
	DNSOptions []string `json:"dnsOptions,omitempty"`
	ExtraHosts []string `json:"extraHosts,omitempty"` // "name:address"
	// NoHosts, NoResolvConf and NoHostname leave these files of /etc as the image
	// has them.
	NoHosts      bool `json:"noHosts,omitempty"`
	NoResolvConf bool `json:"noResolvConf,omitempty"`
	NoHostname   bool `json:"noHostname,omitempty"`
}

// LogDriver says where output goes besides attached clients.
type LogDriver string

const (
	// LogFile writes lines in the CRI format to Path.
	LogFile LogDriver = ""
	// LogNone keeps nothing.
	LogNone LogDriver = "none"
	// LogPassthrough hands the launching client's descriptors to the process;
	// nothing is copied, and nobody can attach.
	LogPassthrough LogDriver = "passthrough"
)

// LogConfig is how output is kept.
type LogConfig struct {
	Driver LogDriver `json:"driver,omitempty"`
	// Path of the log file; "" is a file in the container's directory.
	Path string `json:"path,omitempty"`
	// MaxSizeBytes rotates the file when it would grow beyond; 0 never.
	MaxSizeBytes int64 `json:"maxSizeBytes,omitempty"`
	// MaxFiles is how many files rotation keeps, the current one included; 0 is 1.
	MaxFiles int `json:"maxFiles,omitempty"`
}
