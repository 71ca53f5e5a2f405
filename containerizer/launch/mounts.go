package launch

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch/program"
)

// mounts makes the container's mounts in order. A read-only tmpfs that others are
// mounted in is made so last, for their places have to be made in it.
func (k *compiler) mounts(fs *filesystemPlan) error {
	seal := map[*plannedMount]program.Slot{}
	for i := range fs.mounts {
		m := &fs.mounts[i]
		if m.options.Bind {
			k.bind(m)
			continue
		}
		readonly := fs.holdsOthers(m) && m.options.Flags&unix.MS_RDONLY != 0
		if readonly {
			m.options.Flags &^= unix.MS_RDONLY
		}
		if err := k.mountFilesystem(m); err != nil {
			return err
		}
		if readonly {
			seal[m] = k.openMounted(m)
		}
	}
	for i := range fs.mounts {
		if fd, is := seal[&fs.mounts[i]]; is {
			k.step(fmt.Sprintf("make %q read-only", fs.mounts[i].Destination))
			k.mountSetattr(fd, unix.AT_EMPTY_PATH, Attributes{Set: unix.MOUNT_ATTR_RDONLY}, 0)
		}
	}
	return nil
}

// holdsOthers says whether m is a tmpfs with other mounts in it.
func (fs *filesystemPlan) holdsOthers(m *plannedMount) bool {
	return m.Type == "tmpfs" && slices.ContainsFunc(fs.mounts, func(o plannedMount) bool {
		return strings.HasPrefix(o.Destination, m.Destination+"/")
	})
}

// openMounted opens what was just mounted.
func (k *compiler) openMounted(m *plannedMount) program.Slot {
	mounted := k.NewSlot()
	k.open(atFDCWD, m.Destination, unix.O_PATH, 0, mounted)
	return mounted
}

func (k *compiler) bind(m *plannedMount) {
	k.step(fmt.Sprintf("mount %q on %q", m.Source, m.Destination))
	target := k.target(m.Destination, m.isDir, 0)
	k.moveMount(m.tree, target)
}

// moveMount attaches a detached mount to the place a descriptor refers to.
func (k *compiler) moveMount(tree, target program.Slot) {
	empty := k.Text("")
	k.Call(unix.SYS_MOVE_MOUNT, tree, empty, target, empty, unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// mountFilesystem mounts a new filesystem on the directory the process stands in,
// which leaves no path to be exchanged in between.
func (k *compiler) mountFilesystem(m *plannedMount) error {
	o := &m.options
	if o.IDMap || o.RecursiveAttributes != (Attributes{}) {
		return fmt.Errorf("mount on %q: recursive and idmap options are for bind mounts: %w", m.Destination, containerizer.ErrInvalid)
	}
	data := o.Data
	if label := k.c.Info.SELinuxMountLabel; label != "" && labelled(m.Type) {
		data = append(slices.Clip(data), fmt.Sprintf("context=%q", label))
	}
	k.step(fmt.Sprintf("mount %s on %q", m.Type, m.Destination))
	// An image that makes /proc a symbolic link would choose what is hidden.
	var resolve uint64
	if m.Type == "proc" || m.Type == "sysfs" {
		resolve = unix.RESOLVE_NO_SYMLINKS
	}
	target := k.target(m.Destination, true, resolve)
	k.Call(unix.SYS_FCHDIR, target)
	source := m.Source
	if source == "" {
		source = m.Type
	}
	here := k.Text(".")
	var dataArg any = 0
	if len(data) > 0 {
		dataArg = k.Text(strings.Join(data, ","))
	}
	k.Call(unix.SYS_MOUNT, k.Text(source), here, k.Text(m.Type), o.Flags, dataArg)
	if o.Propagation != 0 {
		k.mountSetattr(k.openMounted(m), unix.AT_EMPTY_PATH, Attributes{}, o.Propagation&^unix.MS_REC)
	}
	return nil
}

// labelled says whether a filesystem takes its SELinux context as an option.
func labelled(fstype string) bool {
	return fstype == "tmpfs" || fstype == "devpts" || fstype == "mqueue" || fstype == "ramfs"
}

// target opens the place of a mount below the root, creating what is missing, and
// returns its descriptor.
func (k *compiler) target(p string, isDir bool, resolve uint64) program.Slot {
	found := k.NewSlot()
	flags := uint64(unix.O_PATH)
	if isDir {
		flags |= unix.O_DIRECTORY
	}
	k.open(atFDCWD, p, flags, resolve, found).Accept(1, unix.ENOENT)
	done := k.Jump()
	parent, name := k.makeParents(p)
	if isDir {
		k.Call(unix.SYS_MKDIRAT, parent, k.Text(name), 0o755).Accept(0, unix.EEXIST)
	} else {
		k.Call(unix.SYS_MKNODAT, parent, k.Text(name), unix.S_IFREG|0o644, 0).Accept(0, unix.EEXIST)
	}
	k.open(parent, name, flags, resolve, found)
	k.Land(done)
	return found
}

// makeParents creates the directories above p and returns a descriptor of the
// last, and the name of p in it.
func (k *compiler) makeParents(p string) (parent program.Slot, name string) {
	elements := strings.Split(strings.TrimPrefix(path.Clean(p), "/"), "/")
	parent = k.NewSlot()
	k.open(atFDCWD, "/", unix.O_PATH|unix.O_DIRECTORY, 0, parent)
	for _, e := range elements[:len(elements)-1] {
		next := k.NewSlot()
		k.Call(unix.SYS_MKDIRAT, parent, k.Text(e), 0o755).Accept(0, unix.EEXIST)
		k.open(parent, e, unix.O_PATH|unix.O_DIRECTORY, 0, next)
		parent = next
	}
	return parent, elements[len(elements)-1]
}
