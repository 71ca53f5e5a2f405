package apply

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// Capabilities the child keeps: those that making files of any owner needs.
const keptCapabilities = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER |
	1<<unix.CAP_FSETID | 1<<unix.CAP_MKNOD | 1<<unix.CAP_SETFCAP

// confine locks the process into the directory target and gives up whatever
// unpacking does not need. It returns the descriptor of the new root. The caller
// runs in a mount namespace of its own, with target as its working directory.
func confine(target int) (root int, err error) {
	if err := enterRoot(target); err != nil {
		return -1, err
	}
	root, err = unix.Open("/", dirFlags, 0)
	if err != nil {
		return -1, fmt.Errorf("open the new root: %w", err)
	}
	// Neither of these can still be needed, and one is the outside's.
	_ = unix.Close(target)
	unix.Umask(0)
	if err := setLimits(); err != nil {
		return -1, err
	}
	if err := dropCapabilities(); err != nil {
		return -1, err
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return -1, fmt.Errorf("prctl(PR_SET_DUMPABLE): %w", err)
	}
	if err := filterSyscalls(); err != nil {
		return -1, err
	}
	return root, nil
}

// enterRoot makes target the only file system the process can see, without
// set-id, devices and execution.
func enterRoot(target int) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := sameDir(target); err != nil {
		return err
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, ".", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("clone the target's mount: %w", err)
	}
	defer func() { _ = unix.Close(tree) }()
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("restrict the target's mount: %w", err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, ".", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount the target: %w", err)
	}
	if err := unix.Fchdir(tree); err != nil {
		return fmt.Errorf("chdir to the target: %w", err)
	}
	switch err := unix.PivotRoot(".", "."); err {
	case nil:
		// The old root is now mounted on top of the new one (pivot_root(2), NOTES).
		if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount the old root: %w", err)
		}
	case unix.EINVAL: // the root is an initramfs, which cannot be exchanged
		if err := unix.Chroot("."); err != nil {
			return fmt.Errorf("chroot to the target: %w", err)
		}
	default:
		return fmt.Errorf("pivot_root to the target: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("chdir to the new root: %w", err)
	}
	return nil
}

// sameDir checks that the working directory is target.
func sameDir(target int) error {
	var a, b unix.Stat_t
	if err := unix.Fstat(target, &a); err != nil {
		return fmt.Errorf("stat the target: %w", err)
	}
	if err := unix.Stat(".", &b); err != nil {
		return fmt.Errorf("stat the working directory: %w", err)
	}
	if a.Dev != b.Dev || a.Ino != b.Ino {
		return fmt.Errorf("the working directory is not the target: %w", containerizer.ErrInvalid)
	}
	return nil
}

func setLimits() error {
	for _, l := range []struct {
		name     string
		resource int
		value    uint64
	}{
		{"core", unix.RLIMIT_CORE, 0},
		{"nofile", unix.RLIMIT_NOFILE, 10240},
		{"data", unix.RLIMIT_DATA, 2 * memoryLimit},
	} {
		if err := unix.Setrlimit(l.resource, &unix.Rlimit{Cur: l.value, Max: l.value}); err != nil {
			return fmt.Errorf("set the limit %s to %d: %w", l.name, l.value, err)
		}
	}
	return nil
}
