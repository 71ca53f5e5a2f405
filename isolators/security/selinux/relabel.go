package selinux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
)

// Values of Mount.Relabel.
const (
	relabelShared  = "shared"
	relabelPrivate = "private"
)

// xattr holds the label of a file.
const xattr = "security.selinux"

// protected are directories of the host that a container's label would break.
//
//nolint:gochecknoglobals // a constant table
var protected = [...]string{
	"/", "/bin", "/boot", "/dev", "/etc", "/etc/passwd", "/etc/pki", "/etc/shadow", "/home", "/lib", "/lib64", "/media",
	"/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib", "/var/log",
}

func checkRelabel(mounts []containerizer.Mount) error {
	for _, m := range mounts {
		if m.Relabel != "" && m.Relabel != relabelShared && m.Relabel != relabelPrivate {
			return fmt.Errorf("mount on %q: relabel %q is neither %q nor %q: %w",
				m.Destination, m.Relabel, relabelShared, relabelPrivate, containerizer.ErrInvalid)
		}
	}
	return nil
}

// relabel labels the sources of the mounts of c that ask for it.
func (i *Isolator) relabel(ctx context.Context, c *containerizer.Container, mount label) error {
	for _, m := range c.Spec.Mounts {
		if m.Relabel == "" {
			continue
		}
		source, err := hostPath(c, m)
		if err != nil {
			return err
		}
		l := mount
		if m.Relabel == relabelShared {
			l.level = sharedLevel
		}
		if err := i.relabelTree(ctx, source, l.String()); err != nil {
			return fmt.Errorf("relabel %q for the mount on %q: %w", source, m.Destination, err)
		}
	}
	return nil
}

// hostPath finds the directory behind m: isolators before this one have resolved
// volumes and relative paths.
func hostPath(c *containerizer.Container, m containerizer.Mount) (string, error) {
	if c.Launch != nil {
		for _, l := range c.Launch.Mounts {
			bind := l.Type == "bind" || slices.Contains(l.Options, "bind") || slices.Contains(l.Options, "rbind")
			if bind && path.Clean(l.Destination) == path.Clean(m.Destination) {
				return l.Source, nil
			}
		}
	}
	if m.Type == containerizer.MountBind {
		return m.Source, nil
	}
	return "", fmt.Errorf("mount on %q: a mount of type %q has no directory of the host to relabel: %w",
		m.Destination, m.Type, containerizer.ErrUnsupported)
}

// relabelTree sets the label of a file or of a directory with all below. It works
// by descriptors and follows no symbolic link below root: a container may be
// changing the tree meanwhile.
func (i *Isolator) relabelTree(ctx context.Context, root, label string) error {
	real, err := filepath.EvalSymlinks(root) // to know protected directories by every name
	if err != nil {
		return err
	}
	if slices.Contains(protected[:], real) {
		return fmt.Errorf("%q is a directory of the system, which would stop working under the label of a container: %w",
			real, containerizer.ErrInvalid)
	}
	fd, err := unix.Open(real, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: real, Err: err}
	}
	err = relabelFile(ctx, fd, real, []byte(label))
	if errors.Is(err, unix.ENOTSUP) {
		// Network filesystems without labels are mounted with one for all files.
		i.log.Warn("filesystem without labels is not relabelled", log.String("path", real))
		return nil
	}
	return err
}

// relabelFile labels what the O_PATH descriptor fd refers to, and everything below;
// it closes fd.
func relabelFile(ctx context.Context, fd int, name string, label []byte) error {
	self := os.NewFile(uintptr(fd), name)
	defer self.Close() //nolint:errcheck // a descriptor without data
	if err := ctx.Err(); err != nil {
		return err
	}
	// The magic link leads to the file itself, also when that is a symbolic link.
	if err := unix.Setxattr("/proc/self/fd/"+strconv.Itoa(fd), xattr, label, 0); err != nil {
		return &os.PathError{Op: "set the label of", Path: name, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	readable, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	dir := os.NewFile(uintptr(readable), name)
	defer dir.Close() //nolint:errcheck // only read from
	return relabelEntries(ctx, dir, label)
}

// relabelEntries labels what is in dir.
func relabelEntries(ctx context.Context, dir *os.File, label []byte) error {
	for {
		entries, err := dir.Readdirnames(256)
		for _, entry := range entries {
			name := path.Join(dir.Name(), entry)
			child, err := unix.Openat(int(dir.Fd()), entry, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if errors.Is(err, unix.ENOENT) {
				continue // removed meanwhile
			}
			if err != nil {
				return &os.PathError{Op: "open", Path: name, Err: err}
			}
			if err := relabelFile(ctx, child, name, label); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
