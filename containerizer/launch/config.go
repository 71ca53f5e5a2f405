package launch

import (
	"fmt"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// Config is what a program is compiled from.
type Config struct {
	// ID names the container in the session keyring and in messages.
	ID   containerizer.ContainerID
	Info *containerizer.LaunchInfo
	// Process is resolved: names are numbers, defaults are filled in.
	Process Process
	// PivotDir is a directory of the host on which the root filesystem is mounted, in
	// the container's mount namespace only, before it becomes the root.
	PivotDir string
	// Hold makes the process wait before execve.
	Hold bool
	// Init runs the process as the command of a mini-init
	// (containerizer/launch/miniinit); without arguments the init is alone.
	Init bool
	// Filter is the compiled seccomp profile, FilterFlags the flags of seccomp(2).
	// Empty for none.
	Filter      []byte
	FilterFlags uint
	// IsDir says whether a mount source of the host is a directory.
	IsDir func(path string) (bool, error)
	// HostDevice returns the path of a node of the host for a device, which may be at
	// another path in the container. A user namespace asks for it.
	HostDevice func(d *specs.LinuxDevice) (string, error)
	// LastCap is the highest capability that the kernel knows.
	LastCap int
	// Available, when not 0, bounds the capabilities of the process, as a bit mask:
	// a privileged container has all that berth itself has.
	Available uint64
}

// Process is a process to be executed, with everything resolved.
type Process struct {
	// Path is executed in place of Args[0], and not looked for along PATH.
	Path       string
	Args       []string
	Env        []string
	WorkingDir string
	UID, GID   uint32
	Groups     []uint32
	Umask      uint32
	Terminal   bool
	Size       containerizer.Size
	Rlimits    []specs.POSIXRlimit
	// OOMScoreAdj overrides the launch information's.
	OOMScoreAdj *int
	Scheduler   *specs.Scheduler
	IOPriority  *specs.LinuxIOPriority
	// Capabilities of the process; nil keeps what the launcher has.
	Capabilities    *specs.LinuxCapabilities
	NoNewPrivileges bool
	AppArmorProfile string
	SELinuxLabel    string
}

// InputKind says what an input descriptor is.
type InputKind string

// The kinds of input descriptors.
const (
	InputStdin  InputKind = "stdin"
	InputStdout InputKind = "stdout"
	InputStderr InputKind = "stderr"
	// InputRootfs is the mount of the container's root filesystem, detached.
	InputRootfs InputKind = "rootfs"
	// InputTree is a detached clone of the mount at Path (open_tree(2)) with Tree applied.
	InputTree InputKind = "tree"
	// InputDir is the directory Path, opened O_PATH.
	InputDir InputKind = "directory"
	// InputFile is the file Path, opened for writing.
	InputFile InputKind = "file"
	// InputNamespace is the namespace file Path.
	InputNamespace InputKind = "namespace"
	// InputInit is the executable of the mini-init.
	InputInit InputKind = "mini-init"
	// InputPidFD is a pidfd of the process joined by an exec.
	InputPidFD InputKind = "pidfd"
)

// Input is a descriptor that a program needs. The first three are always stdin,
// stdout and stderr; with a terminal they are not used.
type Input struct {
	Kind InputKind
	Path string
	Tree *Tree
}

// Tree is what is applied to a detached clone of a mount (mount_setattr(2)).
type Tree struct {
	// Rootfs, when set, is mounted instead of a path, and SubPath is the part of it
	// that is wanted; links in it do not lead out.
	Rootfs  *containerizer.Rootfs
	SubPath string
	// Recursive clones the mounts below as well (rbind).
	Recursive bool
	// Attributes are changed on the top mount only, RecursiveAttributes on all.
	Attributes, RecursiveAttributes Attributes
	// Propagation is a MS_ flag; PropagationRecursive applies it to all mounts.
	Propagation          uint64
	PropagationRecursive bool
	// IDMap asks for the mappings, of the container's user namespace where they are
	// empty; IDMapRecursive for all mounts below too.
	IDMap, IDMapRecursive    bool
	UIDMappings, GIDMappings []specs.LinuxIDMapping
}

// Attributes are MOUNT_ATTR_ flags to set and to clear.
type Attributes struct{ Set, Clear uint64 }

func (in Input) String() string {
	if in.Path == "" {
		return string(in.Kind)
	}
	return fmt.Sprintf("%s %q%s", in.Kind, in.Path, in.Tree.describe())
}

// describe is what is particular about the mount, in parentheses.
func (t *Tree) describe() string {
	if t == nil {
		return ""
	}
	var list []string
	if t.Recursive {
		list = append(list, "recursive")
	}
	if t.IDMap {
		list = append(list, "idmapped")
	}
	if a := t.Attributes; a != (Attributes{}) {
		list = append(list, fmt.Sprintf("set %#x clear %#x", a.Set, a.Clear))
	}
	if a := t.RecursiveAttributes; a != (Attributes{}) {
		list = append(list, fmt.Sprintf("recursively set %#x clear %#x", a.Set, a.Clear))
	}
	if len(list) == 0 {
		return ""
	}
	return " (" + strings.Join(list, ", ") + ")"
}
