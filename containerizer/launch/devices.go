package launch

import (
	"fmt"
	"path"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch/interp"
	"github.com/berth-dev/berth/containerizer/launch/program"
)

// deviceLinks are the links of runtime-spec, runtime-linux.md "Dev symbolic links".
//
//nolint:gochecknoglobals // a constant table
var deviceLinks = [...][2]string{
	{"/proc/self/fd", "fd"},
	{"/proc/self/fd/0", "stdin"},
	{"/proc/self/fd/1", "stdout"},
	{"/proc/self/fd/2", "stderr"},
	{"pts/ptmx", "ptmx"},
}

// devices makes the device nodes, and the usual links of a new /dev.
func (k *compiler) devices(fs *filesystemPlan) error {
	devices := k.c.Info.Devices
	if len(devices) == 0 && !fs.devTmpfs {
		return nil
	}
	dev := program.Slot(0)
	if fs.devTmpfs {
		k.step("open /dev")
		dev = k.NewSlot()
		k.open(atFDCWD, "/dev", unix.O_PATH|unix.O_DIRECTORY, 0, dev)
		k.step("make the links in /dev")
		for _, l := range deviceLinks {
			k.Call(unix.SYS_SYMLINKAT, k.Text(l[0]), dev, k.Text(l[1])).Accept(0, unix.EEXIST)
		}
	}
	for i := range devices {
		if err := k.device(fs, dev, &devices[i]); err != nil {
			return err
		}
	}
	return nil
}

func (k *compiler) device(fs *filesystemPlan, dev program.Slot, d *specs.LinuxDevice) error {
	if !path.IsAbs(d.Path) {
		return fmt.Errorf("device path %q is not absolute: %w", d.Path, containerizer.ErrInvalid)
	}
	kind, ok := map[string]uint32{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}[d.Type]
	if !ok {
		return fmt.Errorf("device %q has type %q, it must be c, b, u or p: %w", d.Path, d.Type, containerizer.ErrInvalid)
	}
	k.step(fmt.Sprintf("make the device %q", d.Path))
	parent, name := dev, path.Base(path.Clean(d.Path))
	if parent == 0 || path.Dir(path.Clean(d.Path)) != "/dev" {
		parent, name = k.makeParents(d.Path)
	}
	if fs.userns && kind != unix.S_IFIFO {
		host, err := k.c.HostDevice(d)
		if err != nil {
			return fmt.Errorf("device %q: %w", d.Path, err)
		}
		k.bindDevice(fs, parent, name, host)
		return nil
	}
	mode := uint32(0o666)
	if d.FileMode != nil {
		mode = uint32(d.FileMode.Perm())
	}
	number := unix.Mkdev(uint32(d.Major), uint32(d.Minor))
	k.Call(unix.SYS_MKNODAT, parent, k.Text(name), int(kind|mode), number)
	if (d.UID != nil && *d.UID != 0) || (d.GID != nil && *d.GID != 0) {
		k.Call(unix.SYS_FCHOWNAT, parent, k.Text(name), id(d.UID), id(d.GID), unix.AT_SYMLINK_NOFOLLOW)
	}
	return nil
}

func id(p *uint32) int {
	if p == nil {
		return 0
	}
	return int(*p)
}

// bindDevice mounts a node of the host, for a user namespace, which may not make
// nodes.
func (k *compiler) bindDevice(fs *filesystemPlan, parent program.Slot, name, hostPath string) {
	tree, target := k.NewSlot(), k.NewSlot()
	k.Call(unix.SYS_MKNODAT, parent, k.Text(name), unix.S_IFREG|0o644, 0).Accept(0, unix.EEXIST)
	k.open(parent, name, unix.O_PATH, 0, target)
	k.hostTree(fs, hostPath, tree)
	k.moveMount(tree, target)
}

// hostTree clones the mount of a host path, out of the host's file tree that
// leaveHost has not taken away yet.
func (k *compiler) hostTree(fs *filesystemPlan, hostPath string, tree program.Slot) {
	k.Call(unix.SYS_OPEN_TREE, fs.oldRoot, k.Text(strings.TrimPrefix(hostPath, "/")), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC).To(tree)
}

// terminal opens a pseudo terminal in the container's devpts and sends its master
// to the monitor. fs is nil for an exec, which leaves /dev/console alone.
func (k *compiler) terminal(fs *filesystemPlan) program.Slot {
	p := &k.c.Process
	if !p.Terminal {
		return 0
	}
	k.step("open a terminal at \"/dev/pts/ptmx\"")
	master, slave := k.NewSlot(), k.NewSlot()
	k.open(atFDCWD, "/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY, 0, master)
	k.Call(unix.SYS_IOCTL, master, unix.TIOCSPTLCK, k.Zeros(4))
	k.Call(unix.SYS_IOCTL, master, unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC).To(slave)
	if p.Size != (containerizer.Size{}) {
		size := k.Words(uint64(p.Size.Rows) | uint64(p.Size.Columns)<<16)
		k.Call(unix.SYS_IOCTL, slave, unix.TIOCSWINSZ, size)
	}
	if p.UID != 0 {
		k.Call(unix.SYS_FCHOWN, slave, int(p.UID), -1)
	}
	if fs != nil && fs.devTmpfs {
		k.step("mount the terminal on \"/dev/console\"")
		tree := k.NewSlot()
		target := k.target("/dev/console", false, 0)
		k.Call(unix.SYS_OPEN_TREE, slave, k.Text(""), unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC).To(tree)
		k.moveMount(tree, target)
	}
	k.step("send the terminal to the monitor")
	k.sendDescriptor(interp.MessagePty, master)
	return slave
}

// sendDescriptor sends a descriptor over the progress socket (unix(7), SCM_RIGHTS).
func (k *compiler) sendDescriptor(message byte, fd program.Slot) {
	control := k.Words(uint64(unix.CmsgLen(4)), uint64(unix.SOL_SOCKET|unix.SCM_RIGHTS<<32), 0)
	k.Call(program.OpStore, control+16, fd)
	iov := k.Words(k.Text(string(message)), 1)
	header := k.Words(0, 0, iov, 1, control, uint64(unix.CmsgSpace(4)), 0)
	k.Call(unix.SYS_SENDMSG, program.Progress, header, unix.MSG_NOSIGNAL)
}
