package inputs

import (
	"fmt"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch"
)

// MountRootfs mounts a root filesystem, detached, with the ids mapped if r asks
// for it. The caller closes the file; the mount lives as long as it or a container
// that it was moved into.
func MountRootfs(r *containerizer.Rootfs, uids, gids []specs.LinuxIDMapping, m *IDMapper) (*os.File, error) {
	if r.IDMapped && len(uids) == 0 {
		return nil, fmt.Errorf("an idmapped root filesystem needs the mappings of a user namespace: %w", containerizer.ErrInvalid)
	}
	switch {
	case r.Path != "" && len(r.Lower) == 0:
		return mountDirectory(r, uids, gids, m)
	case r.Path == "" && len(r.Lower) > 0:
		return mountOverlay(&overlay{Rootfs: r, uids: uids, gids: gids, idmap: m})
	}
	return nil, fmt.Errorf("a root filesystem is a directory or a list of layers: %w", containerizer.ErrInvalid)
}

func mountDirectory(r *containerizer.Rootfs, uids, gids []specs.LinuxIDMapping, m *IDMapper) (*os.File, error) {
	in := launch.Input{Kind: launch.InputTree, Path: r.Path, Tree: &launch.Tree{
		Recursive:            true,
		IDMap:                r.IDMapped,
		Propagation:          unix.MS_PRIVATE,
		PropagationRecursive: true,
	}}
	f, err := openTree(in, &Options{UIDMappings: uids, GIDMappings: gids, IDMap: m})
	if err != nil {
		return nil, fmt.Errorf("root filesystem: %w", err)
	}
	return f, nil
}
