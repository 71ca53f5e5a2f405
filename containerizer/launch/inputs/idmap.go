package inputs

import (
	"fmt"
	"os"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch"
	"github.com/berth-dev/berth/containerizer/launch/interp"
)

// IDMapper makes user namespaces whose only purpose is to carry the mappings of
// idmapped mounts (mount_setattr(2)), one for equal mappings. The zero value is
// ready for use; it is for one goroutine.
type IDMapper struct{ made []mappedNamespace }

type mappedNamespace struct {
	uids, gids []specs.LinuxIDMapping
	file       *os.File
}

// Close closes the namespaces. Mounts keep what they use.
func (m *IDMapper) Close() {
	for _, n := range m.made {
		_ = n.file.Close()
	}
	m.made = nil
}

// apply maps the ids of a detached mount.
func (m *IDMapper) apply(fd int, uids, gids []specs.LinuxIDMapping, recursive bool) error {
	ns, err := m.namespace(uids, gids)
	if err != nil {
		return err
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())}
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	if err := unix.MountSetattr(fd, "", flags, &attr); err != nil {
		if err == unix.EINVAL {
			return fmt.Errorf("map the ids of the mount: the filesystem or the kernel does not support idmapped mounts: %w", containerizer.ErrUnsupported)
		}
		return fmt.Errorf("map the ids of the mount: %w", err)
	}
	return nil
}

func (m *IDMapper) namespace(uids, gids []specs.LinuxIDMapping) (*os.File, error) {
	for _, n := range m.made {
		if slices.Equal(n.uids, uids) && slices.Equal(n.gids, gids) {
			return n.file, nil
		}
	}
	f, err := newUserNamespace(uids, gids)
	if err != nil {
		return nil, fmt.Errorf("make a user namespace for idmapped mounts: %w", err)
	}
	m.made = append(m.made, mappedNamespace{uids, gids, f})
	return f, nil
}

// newUserNamespace makes a user namespace by a child that lives just long enough
// for its namespace to be opened.
func newUserNamespace(uids, gids []specs.LinuxIDMapping) (*os.File, error) {
	block, err := launch.UserNamespaceProgram(uids, gids)
	if err != nil {
		return nil, err
	}
	image, err := interp.LoadBlock(block)
	if err != nil {
		return nil, err
	}
	defer func() { _ = image.Close() }()
	child, err := image.Spawn(nil)
	if err != nil {
		return nil, err
	}
	f, err := openPath(fmt.Sprintf("/proc/%d/ns/user", child.PID), unix.O_RDONLY)
	_ = unix.PidfdSendSignal(child.PidFD, unix.SIGKILL, nil, 0) // it may have ended by itself
	reap(child)
	return f, err
}

func reap(child *interp.Child) {
	for {
		if _, err := unix.Wait4(child.PID, nil, unix.WALL, nil); err != unix.EINTR {
			break
		}
	}
	_ = child.Close()
}
