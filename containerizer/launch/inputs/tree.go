package inputs

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch"
)

// openTree clones the mount of a host path, detached, with its attributes.
func openTree(in launch.Input, o *Options) (*os.File, error) {
	t := in.Tree
	if t.Rootfs != nil {
		return openLayers(in, o)
	}
	if err := checkPropagation(in.Path, t.Propagation); err != nil {
		return nil, err
	}
	tree, err := openPlace(in.Path, t.Recursive)
	if err != nil {
		return nil, err
	}
	if err := applyTree(tree, t, o); err != nil {
		_ = tree.Close()
		return nil, fmt.Errorf("mount %q: %w", in.Path, err)
	}
	return tree, nil
}

// openPlace clones the mount of a path. One in the file tree of another process
// (/proc/PID/root/…) is cloned in that process's mount namespace: open_tree(2)
// clones no other's.
func openPlace(path string, recursive bool) (*os.File, error) {
	rest, ok := strings.CutPrefix(path, "/proc/")
	pid, inside, isRoot := strings.Cut(rest, "/root/")
	if !ok || !isRoot || strings.Trim(pid, "0123456789") != "" {
		return cloneTree(unix.AT_FDCWD, path, recursive)
	}
	var tree *os.File
	err := onThread(func() error {
		if err := enterMounts("/proc/" + pid + "/ns/mnt"); err != nil {
			return fmt.Errorf("mount %q: %w", path, err)
		}
		root, err := openPath("/", unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer func() { _ = root.Close() }()
		tree, err = cloneBelow(root, inside, recursive)
		return err
	})
	return tree, err
}

// enterMounts joins a mount namespace.
//
// Preconditions: it runs on a thread of its own (see onThread).
func enterMounts(path string) error {
	ns, err := openPath(path, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("leave the shared working directory: %w", err)
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("join %q: %w", path, err)
	}
	return nil
}

// onThread runs f on a thread that ends with it.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		done <- f()
	}()
	return <-done
}

// openLayers mounts layers, or clones a part of a directory.
func openLayers(in launch.Input, o *Options) (*os.File, error) {
	t := in.Tree
	var tree *os.File
	var err error
	if t.Rootfs.Path != "" {
		tree, err = clonePart(t)
	} else {
		tree, err = mountOverlay(&overlay{
			Rootfs: t.Rootfs, sub: t.SubPath, uids: o.UIDMappings, gids: o.GIDMappings, idmap: o.IDMap,
		})
	}
	if err != nil {
		return nil, fmt.Errorf("mount %q: %w", in.Path, err)
	}
	plain := *t
	plain.IDMap = t.IDMap && !t.Rootfs.IDMapped
	if err := applyTree(tree, &plain, o); err != nil {
		_ = tree.Close()
		return nil, fmt.Errorf("mount %q: %w", in.Path, err)
	}
	return tree, nil
}

func clonePart(t *launch.Tree) (*os.File, error) {
	dir, err := openPath(t.Rootfs.Path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	return cloneBelow(dir, t.SubPath, t.Recursive)
}

// cloneBelow clones the mount of a path below root; links are resolved as if root
// were /.
func cloneBelow(root *os.File, sub string, recursive bool) (*os.File, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	if sub == "" {
		sub = "."
	}
	fd, err := unix.Openat2(int(root.Fd()), sub, &how)
	if err != nil {
		return nil, pathError("open", sub, err)
	}
	defer func() { _ = unix.Close(fd) }()
	flags := uint(unix.AT_EMPTY_PATH | unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(fd, "", flags)
	if err != nil {
		return nil, pathError("clone the mount of", sub, err)
	}
	return os.NewFile(uintptr(tree), sub), nil
}

func cloneTree(dir int, path string, recursive bool) (*os.File, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(dir, path, flags)
	if err != nil {
		return nil, pathError("mount", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

func applyTree(tree *os.File, t *launch.Tree, o *Options) error {
	fd := int(tree.Fd())
	if t.IDMap {
		uids, gids := t.UIDMappings, t.GIDMappings
		if len(uids) == 0 {
			uids, gids = o.UIDMappings, o.GIDMappings
		}
		if len(uids) == 0 {
			return fmt.Errorf("an idmapped mount needs mappings of its own or a user namespace: %w", containerizer.ErrInvalid)
		}
		if err := o.IDMap.apply(fd, uids, gids, t.IDMapRecursive); err != nil {
			return err
		}
	}
	attr := unix.MountAttr{Attr_set: t.Attributes.Set, Attr_clr: t.Attributes.Clear}
	recursive := unix.MountAttr{Attr_set: t.RecursiveAttributes.Set, Attr_clr: t.RecursiveAttributes.Clear}
	if t.PropagationRecursive {
		recursive.Propagation = t.Propagation
	} else {
		attr.Propagation = t.Propagation
	}
	if err := setattr(fd, 0, &attr); err != nil {
		return err
	}
	return setattr(fd, unix.AT_RECURSIVE, &recursive)
}

func setattr(fd int, flags uint, attr *unix.MountAttr) error {
	if *attr == (unix.MountAttr{}) {
		return nil
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|flags, attr); err != nil {
		return fmt.Errorf("set mount attributes (set %#x, clear %#x, propagation %#x): %w", attr.Attr_set, attr.Attr_clr, attr.Propagation, err)
	}
	return nil
}

// checkPropagation refuses a propagation that the source's mount cannot give:
// what is shared or a slave with the container must be shared with somebody.
func checkPropagation(path string, flag uint64) error {
	var need string
	switch flag {
	case unix.MS_SHARED:
		need = "shared"
	case unix.MS_SLAVE:
		need = "shared or a slave"
	default:
		return nil
	}
	have, err := propagation(path)
	if err != nil {
		return err
	}
	if have == unix.MS_SHARED || have == unix.MS_SLAVE && flag == unix.MS_SLAVE {
		return nil
	}
	return fmt.Errorf("mount %q: its propagation can be passed on only if the mount it lies on is %s on the host (mount --make-shared): %w", path, need, containerizer.ErrFailedPrecondition)
}

// propagation returns the propagation type of the mount that path lies on.
func propagation(path string) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID, &st); err != nil {
		return 0, pathError("mount", path, err)
	}
	return mountinfoPropagation(st.Mnt_id)
}
