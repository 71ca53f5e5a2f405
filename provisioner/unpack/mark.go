package unpack

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// Attributes of overlayfs (Documentation/filesystems/overlayfs.rst).
const (
	// XattrOpaque hides the lower layers' directory of the same path.
	XattrOpaque = "trusted.overlay.opaque"
	// XattrOrigin, on a directory of a lower layer, makes overlayfs look for
	// whiteouts in it even where no other layer has the directory; without it such
	// whiteouts are listed as files that cannot be opened (fs/overlayfs/inode.c,
	// ovl_get_inode). Empty, it says that the origin is not known.
	XattrOrigin = "trusted.overlay.origin"
)

// maxPiece is less than PATH_MAX.
const maxPiece = 4000

// mark sets the attributes that the child was not able to. The layer's root needs
// none: overlayfs merges roots in any case.
func mark(target *os.File, r *Result) error {
	for _, dir := range r.Opaque {
		if err := setXattr(target, dir, XattrOpaque, "y"); err != nil {
			return err
		}
	}
	for _, dir := range r.Whiteouts {
		if err := setXattr(target, dir, XattrOrigin, ""); err != nil {
			return err
		}
	}
	return nil
}

// setXattr sets an attribute on a directory below root. The path comes from the
// child: no link in it is followed.
func setXattr(root *os.File, dir, name, value string) error {
	if dir == "" {
		return nil
	}
	fd, err := openBelow(root, dir)
	if err != nil {
		return fmt.Errorf("open directory %q of the layer: %w", dir, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Fsetxattr(fd, name, []byte(value), 0); err != nil {
		if err == unix.EOPNOTSUPP || err == unix.EPERM {
			return fmt.Errorf("set %s on %q: %w (layers need a file system with trusted extended attributes, and root): %w", name, dir, err, containerizer.ErrUnsupported)
		}
		return fmt.Errorf("set %s on %q: %w", name, dir, err)
	}
	return nil
}

// openBelow opens a directory. Paths of a layer may be longer than the kernel
// takes at once.
func openBelow(root *os.File, dir string) (int, error) {
	defer runtime.KeepAlive(root)
	at := int(root.Fd())
	for {
		piece, rest := dir, ""
		if len(dir) > maxPiece {
			i := strings.LastIndexByte(dir[:maxPiece], '/') // there is one: names are shorter
			piece, rest = dir[:i], dir[i+1:]
		}
		fd, err := unix.Openat2(at, piece, &unix.OpenHow{
			Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
		})
		if at != int(root.Fd()) {
			_ = unix.Close(at)
		}
		if err != nil || rest == "" {
			return fd, err
		}
		at, dir = fd, rest
	}
}

// setPipeSize asks for a larger pipe; a smaller one works too.
func setPipeSize(f *os.File) {
	_, _ = unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, pipeSize)
}
