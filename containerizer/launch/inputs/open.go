package inputs

import (
	"errors"
	"fmt"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch"
)

// Options say what Open cannot know from the inputs themselves.
type Options struct {
	// Rootfs is the mount of the root filesystem (see [MountRootfs]).
	Rootfs *os.File
	// PidFD goes with launch.InputPidFD.
	PidFD *os.File
	// UIDMappings and GIDMappings are those of the container's user namespace.
	UIDMappings, GIDMappings []specs.LinuxIDMapping
	// IDMap makes user namespaces for idmapped mounts; it is shared with MountRootfs.
	IDMap *IDMapper
}

// Open opens the inputs of a program after the first three (the standard
// streams), in order. The files are the caller's to close, but for o.Rootfs and
// o.PidFD, which are returned in their places as they are.
func Open(list []launch.Input, o Options) ([]*os.File, error) {
	files := make([]*os.File, 0, len(list))
	for _, in := range list {
		f, err := open(in, &o)
		if err != nil {
			Close(files, o)
			return nil, err
		}
		if f != nil {
			files = append(files, f)
		}
	}
	return files, nil
}

// Close closes the files that Open opened.
func Close(files []*os.File, o Options) {
	for _, f := range files {
		if f != o.Rootfs && f != o.PidFD {
			_ = f.Close() // nothing was written through it
		}
	}
}

func open(in launch.Input, o *Options) (*os.File, error) {
	switch in.Kind {
	case launch.InputStdin, launch.InputStdout, launch.InputStderr:
		return nil, nil
	case launch.InputRootfs:
		return o.Rootfs, nil
	case launch.InputPidFD:
		return o.PidFD, nil
	case launch.InputInit:
		return openInit()
	case launch.InputTree:
		return openTree(in, o)
	case launch.InputDir:
		return openPath(in.Path, unix.O_PATH|unix.O_DIRECTORY)
	case launch.InputFile:
		return openPath(in.Path, unix.O_WRONLY)
	case launch.InputNamespace:
		return openPath(in.Path, unix.O_RDONLY)
	}
	return nil, fmt.Errorf("input of unknown kind %q: %w", in.Kind, containerizer.ErrInvalid)
}

func openPath(path string, flags int) (*os.File, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, pathError("open", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// pathError is the error of an operation on a path of the host.
func pathError(verb, path string, err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("%s %q: %w: %w", verb, path, err, containerizer.ErrNotFound)
	}
	return fmt.Errorf("%s %q: %w", verb, path, err)
}
