package client

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// seal returns a path of the executable on a read-only mount of its own, which lasts
// as long as the descriptors are open or it is being executed. Until its execve a
// container's process has the monitor as /proc/self/exe, and so has a script of an
// image with "#!/proc/self/exe" for good; on the host's mount the container's root
// could open that for writing (CVE-2019-5736). The directory is cloned and not the
// file, for ps(1) shows the name that was executed.
//
// Without the privilege to mount, which containers need as well, it is binary itself.
func seal(binary string) (fds []int, path string, err error) {
	target, err := filepath.EvalSymlinks(binary)
	if err != nil {
		return nil, "", err
	}
	dir, name := filepath.Split(target)
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if errors.Is(err, unix.EPERM) {
		return nil, binary, nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("clone the mount of %q: %w", dir, err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		closeAll([]int{fd})
		return nil, "", fmt.Errorf("make a mount of %q read-only: %w", dir, err)
	}
	// By this process, since the child moves its descriptors around before execve.
	return []int{fd}, fmt.Sprintf("/proc/%d/fd/%d/%s", os.Getpid(), fd, name), nil
}
