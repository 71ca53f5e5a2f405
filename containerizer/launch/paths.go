package launch

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer/launch/program"
)

// manyPaths is from where on descriptors of masked and read-only paths are closed
// one by one, to stay within RLIMIT_NOFILE.
const manyPaths = 64

// protectPaths hides the masked paths and makes the read-only ones so. A path that
// does not exist is left out.
func (k *compiler) protectPaths(fs *filesystemPlan) {
	info := k.c.Info
	many := len(info.MaskedPaths)+len(info.ReadonlyPaths) > manyPaths
	for _, p := range info.ReadonlyPaths {
		k.step(fmt.Sprintf("make %q read-only", p))
		k.readonly(p, many)
	}
	for _, p := range info.MaskedPaths {
		k.step(fmt.Sprintf("mask %q", p))
		k.maskPath(fs, p, many)
	}
}

// readonly mounts a path on itself, read-only with everything below.
func (k *compiler) readonly(p string, many bool) {
	place, tree := k.NewSlot(), k.NewSlot()
	k.openExisting(p, place)
	absent := k.Branch()
	k.Call(unix.SYS_OPEN_TREE, place, k.Text(""), unix.AT_EMPTY_PATH|unix.AT_RECURSIVE|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC).To(tree)
	k.mountSetattr(tree, unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, Attributes{Set: unix.MOUNT_ATTR_RDONLY}, 0)
	k.moveMount(tree, place)
	k.closeIf(many, place, tree)
	k.Land(absent)
}

// maskPath covers a directory with an empty one and anything else with /dev/null.
// The kind is found out by opening it, and the cover is put on that descriptor.
func (k *compiler) maskPath(fs *filesystemPlan, p string, many bool) {
	place, dir, tree := k.NewSlot(), k.NewSlot(), k.NewSlot()
	k.openExisting(p, place)
	absent := k.Branch()
	k.Call(unix.SYS_OPENAT, place, k.Text("."), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0).To(dir).Accept(0, unix.ENOTDIR)
	notDir := k.Branch()
	if fs.mask != 0 {
		k.Call(unix.SYS_OPEN_TREE, fs.mask, k.Text(""), unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC).To(tree)
		k.moveMount(tree, dir)
		k.closeIf(many, place, dir, tree)
	} else { // in another's file tree is no place of ours to take copies from
		k.Call(unix.SYS_FCHDIR, dir)
		k.mountMask(k.Text("."))
		k.closeIf(many, place, dir)
	}
	done := k.Jump()
	k.Land(notDir)
	k.hostTree(fs, "/dev/null", tree)
	if fs.rootfs == 0 {
		k.expectDevice(tree, 1, 3)
	}
	k.moveMount(tree, place)
	k.closeIf(many, place, tree)
	k.Land(done)
	k.Land(absent)
}

// mountMask mounts an empty tmpfs on a path.
func (k *compiler) mountMask(path any) {
	tmpfs := k.Text("tmpfs")
	k.Call(unix.SYS_MOUNT, tmpfs, path, tmpfs, unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, k.Text("mode=755,nr_inodes=1"))
}

// expectDevice fails the program if a descriptor is not of the device with that
// number: where the root is shared, others could have put anything in the place of
// /dev/null (CVE-2025-31133).
func (k *compiler) expectDevice(fd program.Slot, major, minor int) {
	const size, rdevMajor, rdevMinor = 256, 128, 132 // of struct statx (statx(2))
	st := k.Zeros(size)
	k.Call(unix.SYS_STATX, fd, k.Text(""), unix.AT_EMPTY_PATH, unix.STATX_TYPE, st)
	k.Call(program.OpExpect, st+rdevMajor, major, int(unix.ENODEV))
	k.Call(program.OpExpect, st+rdevMinor, minor, int(unix.ENODEV))
}

// openExisting opens a path; when it does not exist the branch of the operation is
// taken.
func (k *compiler) openExisting(p string, to program.Slot) {
	k.open(atFDCWD, p, unix.O_PATH, 0, to).Accept(0, unix.ENOENT, unix.ENOTDIR)
}

func (k *compiler) closeIf(many bool, slots ...program.Slot) {
	if !many {
		return
	}
	for _, s := range slots {
		k.closeSlot(s)
	}
}
