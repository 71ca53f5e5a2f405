package launch

import (
	"fmt"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch/program"
)

// filesystemPlan is what of the host the container's file tree needs.
type filesystemPlan struct {
	rootfs  program.Slot // the detached root mount; 0 when the root is shared
	oldRoot program.Slot
	mask    program.Slot // an empty read-only tmpfs, of a container with a root of its own
	mounts  []plannedMount
	// userns is whether device nodes must be bound because mknod(2) is not allowed.
	userns bool
	// devTmpfs is whether /dev is a new tmpfs, which gets the usual links.
	devTmpfs bool
}

type plannedMount struct {
	specs.Mount
	options MountOptions
	tree    program.Slot // of a bind
	isDir   bool
}

func (k *compiler) planFilesystem() (*filesystemPlan, error) {
	fs := &filesystemPlan{}
	info := k.c.Info
	for _, n := range info.Namespaces {
		fs.userns = fs.userns || n.Type == specs.UserNamespace
	}
	if info.Rootfs != nil {
		fs.rootfs = k.input(Input{Kind: InputRootfs})
	}
	for _, m := range info.Mounts {
		planned, err := k.planMount(m)
		if err != nil {
			return nil, err
		}
		fs.devTmpfs = fs.devTmpfs || planned.Destination == "/dev" && m.Type == "tmpfs"
		fs.mounts = append(fs.mounts, planned)
	}
	for i := range info.LayerMounts {
		planned, err := k.planLayers(&info.LayerMounts[i])
		if err != nil {
			return nil, err
		}
		fs.mounts = append(fs.mounts, planned)
	}
	slices.SortStableFunc(fs.mounts, func(a, b plannedMount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	return fs, nil
}

func (k *compiler) planMount(m specs.Mount) (plannedMount, error) {
	p := plannedMount{Mount: m, isDir: true}
	if !path.IsAbs(m.Destination) || strings.ContainsRune(m.Destination, 0) {
		return p, fmt.Errorf("mount destination %q is not an absolute path: %w", m.Destination, containerizer.ErrInvalid)
	}
	p.Destination = path.Clean(m.Destination)
	if p.Destination == "/" {
		return p, fmt.Errorf("a mount on / would hide the root filesystem: %w", containerizer.ErrInvalid)
	}
	options, err := ParseMountOptions(m.Options)
	if err != nil {
		return p, fmt.Errorf("mount on %q: %w", m.Destination, err)
	}
	p.options = options
	if m.Type == "bind" {
		p.options.Bind = true
	}
	if !p.options.Bind {
		return p, nil
	}
	if err := p.options.checkBind(); err != nil {
		return p, fmt.Errorf("mount %q on %q: %w", m.Source, m.Destination, err)
	}
	if p.isDir, err = k.c.IsDir(m.Source); err != nil {
		return p, fmt.Errorf("mount %q on %q: %w", m.Source, m.Destination, err)
	}
	p.tree = k.input(Input{Kind: InputTree, Path: m.Source, Tree: treeOf(&p)})
	return p, nil
}

// planLayers plans a mount of layers, or of a part of a directory.
func (k *compiler) planLayers(l *containerizer.LayerMount) (plannedMount, error) {
	p := plannedMount{Mount: specs.Mount{Source: l.SubPath, Destination: path.Clean(l.Destination)}, isDir: true}
	if !path.IsAbs(l.Destination) || p.Destination == "/" {
		return p, fmt.Errorf("mount destination %q is not a path below /: %w", l.Destination, containerizer.ErrInvalid)
	}
	options, err := ParseMountOptions(l.Options)
	if err != nil {
		return p, fmt.Errorf("mount on %q: %w", l.Destination, err)
	}
	p.options = options
	p.options.Bind = true
	if err := p.options.checkBind(); err != nil {
		return p, fmt.Errorf("mount on %q: %w", l.Destination, err)
	}
	if l.SubPath != "" {
		if p.isDir, err = k.partIsDir(l); err != nil {
			return p, fmt.Errorf("mount on %q: %w", l.Destination, err)
		}
	}
	t := treeOf(&p)
	t.Rootfs, t.SubPath = &l.Rootfs, l.SubPath
	p.tree = k.input(Input{Kind: InputTree, Path: path.Join(l.Rootfs.Path, l.SubPath), Tree: t})
	return p, nil
}

// partIsDir looks for the part in the directory, or in the layers from the top.
// It only decides what kind of target is made; a wrong guess fails the mount.
func (k *compiler) partIsDir(l *containerizer.LayerMount) (bool, error) {
	dirs := l.Rootfs.Lower
	if l.Rootfs.Path != "" {
		dirs = []string{l.Rootfs.Path}
	}
	for _, dir := range dirs {
		if isDir, err := k.c.IsDir(path.Join(dir, path.Join("/", l.SubPath))); err == nil {
			return isDir, nil
		}
	}
	return false, fmt.Errorf("there is no %q in what is to be mounted: %w", l.SubPath, containerizer.ErrInvalid)
}

func treeOf(p *plannedMount) *Tree {
	o := &p.options
	propagation := propagationOr(o.Propagation, unix.MS_PRIVATE|unix.MS_REC)
	return &Tree{
		Recursive:            o.Recursive,
		Attributes:           o.Attributes,
		RecursiveAttributes:  o.RecursiveAttributes,
		Propagation:          propagation &^ unix.MS_REC,
		PropagationRecursive: propagation&unix.MS_REC != 0,
		IDMap:                o.IDMap || len(p.UIDMappings) > 0,
		IDMapRecursive:       o.IDMapRecursive,
		UIDMappings:          p.UIDMappings,
		GIDMappings:          p.GIDMappings,
	}
}

func propagationOr(flag, fallback uint64) uint64 {
	if flag == 0 {
		return fallback
	}
	return flag
}

// attachRootfs cuts the mounts off from the host's and puts the root filesystem on
// a directory, which pivot_root(2) needs.
func (k *compiler) attachRootfs(fs *filesystemPlan) {
	k.step("cut the mounts off from the host's")
	k.Call(unix.SYS_MOUNT, 0, k.Text("/"), 0, unix.MS_REC|unix.MS_SLAVE, 0)
	fs.oldRoot = k.NewSlot()
	k.Call(unix.SYS_OPENAT, atFDCWD, k.Text("/"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0).To(fs.oldRoot)
	if fs.rootfs == 0 {
		return
	}
	pivot := k.Text(k.c.PivotDir)
	if len(k.c.Info.MaskedPaths) > 0 {
		k.step(fmt.Sprintf("mount the tmpfs that masks paths on %q", k.c.PivotDir))
		fs.mask = k.NewSlot()
		k.mountMask(pivot)
		k.Call(unix.SYS_OPENAT, atFDCWD, pivot, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0).To(fs.mask)
	}
	k.step(fmt.Sprintf("mount the root filesystem on %q", k.c.PivotDir))
	k.Call(unix.SYS_MOVE_MOUNT, fs.rootfs, k.Text(""), atFDCWD, pivot, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// openHostProc opens the host's /proc if something is to be done through it. That
// is before a mount namespace is joined, whose /proc others may have chosen
// (CVE-2025-52881).
func (k *compiler) openHostProc() {
	info, p := k.c.Info, &k.c.Process
	newTime := slices.ContainsFunc(info.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.TimeNamespace && n.Path == ""
	})
	if len(info.Sysctl) == 0 && !newTime && p.AppArmorProfile == "" && p.SELinuxLabel == "" {
		return
	}
	k.step("open the host's /proc")
	k.hostProc = k.NewSlot()
	k.Call(unix.SYS_OPENAT, atFDCWD, k.Text("/proc"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0).To(k.hostProc)
}

// enterRoot makes the root filesystem the process's root, by chroot(2) for as long as
// the container's mounts are being made. The host's file tree stays visible to the
// kernel until leaveHost: a user namespace may mount proc and sysfs only while a full
// one is visible (mount_namespaces(7)). It must not lie on top of the new root
// meanwhile, as pivot_root(".", ".") would have it: a path that goes up from the root,
// such as an image's symbolic link to "/..", steps onto what is mounted on the root.
func (k *compiler) enterRoot(fs *filesystemPlan) {
	if fs.rootfs == 0 {
		return
	}
	k.step("make the root filesystem the root")
	k.Call(unix.SYS_FCHDIR, fs.rootfs)
	k.Call(unix.SYS_CHROOT, k.Text("."))
	k.propagate(fs, false)
}

// leaveHost makes the root filesystem the root of the mount namespace, read-only if
// asked, and takes the host's file tree away. In between, only "." is looked up.
func (k *compiler) leaveHost(fs *filesystemPlan) {
	if fs.rootfs == 0 {
		return
	}
	if k.c.Info.ReadonlyRootfs {
		k.step("make the root filesystem read-only")
		k.mountSetattr(fs.rootfs, unix.AT_EMPTY_PATH, Attributes{Set: unix.MOUNT_ATTR_RDONLY}, 0)
	}
	k.step("make the root filesystem the root of the mount namespace")
	here := k.Text(".")
	k.Call(unix.SYS_FCHDIR, fs.oldRoot)
	k.Call(unix.SYS_CHROOT, here)
	k.Call(unix.SYS_FCHDIR, fs.rootfs)
	k.Call(unix.SYS_PIVOT_ROOT, here, here)
	k.step("unmount the host's file tree")
	k.Call(unix.SYS_FCHDIR, fs.oldRoot)
	k.Call(unix.SYS_UMOUNT2, here, unix.MNT_DETACH)
	k.Call(unix.SYS_CHDIR, k.Text("/"))
	k.propagate(fs, true)
}

// propagate sets the propagation of the root filesystem: a shared one last, because
// pivot_root(2) refuses it, any other before volumes with one of their own are there.
func (k *compiler) propagate(fs *filesystemPlan, last bool) {
	flag, ok := Propagation(k.c.Info.RootfsPropagation)
	if !ok || last != (flag&unix.MS_SHARED != 0) {
		return
	}
	k.step(fmt.Sprintf("make the root filesystem %s", k.c.Info.RootfsPropagation))
	recursive := 0
	if flag&unix.MS_REC != 0 {
		recursive = unix.AT_RECURSIVE
	}
	k.mountSetattr(fs.rootfs, unix.AT_EMPTY_PATH|recursive, Attributes{}, flag&^unix.MS_REC)
}

// mountSetattr adds mount_setattr(2) on the mount of a descriptor.
func (k *compiler) mountSetattr(fd program.Slot, flags int, a Attributes, propagation uint64) {
	attr := k.Words(a.Set, a.Clear, propagation, 0)
	k.Call(unix.SYS_MOUNT_SETATTR, fd, k.Text(""), flags, attr, 32)
}
