package inputs

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// overlay is an overlay mount in the making.
type overlay struct {
	*containerizer.Rootfs
	sub        string // the part that is wanted
	uids, gids []specs.LinuxIDMapping
	idmap      *IDMapper
	// layers are detached mounts of mapped layers. They must outlive the making of
	// the overlay: a detached mount ends with its descriptor.
	layers []*os.File
}

// errOldKernel: the kernel takes no list of layers, or no detached mounts, by
// fsconfig(2).
var errOldKernel = errors.New("kernel too old for fsconfig of layers")

// mountOverlay mounts the layers. New kernels take them one by one (6.7) and as
// descriptors (6.13, detached mounts 6.15); for others the mount is made by
// mount(2) in a mount namespace of its own.
func mountOverlay(o *overlay) (*os.File, error) {
	if err := o.ownUpper(); err != nil {
		return nil, err
	}
	f, err := o.configure()
	if err == nil && o.sub != "" {
		whole := f
		f, err = cloneBelow(whole, o.sub, false)
		_ = whole.Close()
		if errors.Is(err, unix.EINVAL) {
			err = errOldKernel // before 6.15 only attached mounts can be cloned
		}
	}
	for _, l := range o.layers {
		_ = l.Close()
	}
	if errors.Is(err, errOldKernel) {
		f, err = o.mountAside()
	}
	if err != nil {
		return nil, fmt.Errorf("mount the root filesystem of %d layers: %w", len(o.Lower), err)
	}
	return f, nil
}

// ownUpper maps the owner of the upper directory, whose attributes are those of /:
// unlike the layers it is not idmapped. What an earlier mount or the container has made
// of it stays. A new mapping that lacks the owner gives it to the container's root.
func (o *overlay) ownUpper() error {
	if !o.IDMapped || o.Upper == "" {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Lstat(o.Upper, &st); err != nil {
		return pathError("look at the writable layer", o.Upper, err)
	}
	uid, okU := hostID(o.uids, st.Uid)
	gid, okG := hostID(o.gids, st.Gid)
	if !okU || !okG {
		return fmt.Errorf("the mappings of the user namespace have no id 0: %w", containerizer.ErrInvalid)
	}
	if uid == int(st.Uid) && gid == int(st.Gid) {
		return nil
	}
	if err := os.Lchown(o.Upper, uid, gid); err != nil {
		return err
	}
	return unix.Fchmodat(unix.AT_FDCWD, o.Upper, st.Mode&0o7777, 0) // chown clears set-id bits
}

// hostID is the host's id for one that is the host's already, or a container's.
func hostID(mappings []specs.LinuxIDMapping, id uint32) (int, bool) {
	for _, m := range mappings {
		if id >= m.HostID && id-m.HostID < m.Size {
			return int(id), true
		}
	}
	if host, ok := mapped(mappings, id); ok {
		return host, true
	}
	return mapped(mappings, 0)
}

// mapped is the host's id for a container's.
func mapped(mappings []specs.LinuxIDMapping, id uint32) (int, bool) {
	for _, m := range mappings {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return int(m.HostID + (id - m.ContainerID)), true
		}
	}
	return 0, false
}

// configure makes the mount by fsopen(2) and its kin.
func (o *overlay) configure() (*os.File, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		if errors.Is(err, unix.ENODEV) {
			return nil, fmt.Errorf("the kernel has no overlay filesystem (modprobe overlay): %w", containerizer.ErrUnsupported)
		}
		return nil, fmt.Errorf("fsopen overlay: %w", err)
	}
	defer func() { _ = unix.Close(fs) }()
	for _, dir := range o.Lower {
		if err := o.addLower(fs, dir); err != nil {
			return nil, err
		}
	}
	for _, option := range o.options() {
		if err := setOption(fs, option); err != nil {
			return nil, err
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		if errors.Is(err, unix.EINVAL) {
			// It takes options only now, or descriptors but no detached mounts. If the layers
			// themselves are wrong, the other way says so.
			return nil, errOldKernel
		}
		return nil, fmt.Errorf("make the overlay (%s): %w", o.describe(), err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("mount the overlay: %w", err)
	}
	return os.NewFile(uintptr(fd), "overlay"), nil
}

// setOption sets "name=value" or a flag of a filesystem in the making.
func setOption(fs int, option string) error {
	name, value, has := strings.Cut(option, "=")
	if !has {
		if err := unix.FsconfigSetFlag(fs, name); err != nil {
			return fmt.Errorf("overlay option %q: %w", option, err)
		}
		return nil
	}
	err := unix.FsconfigSetString(fs, name, value)
	if errors.Is(err, unix.EINVAL) && (name == "upperdir" || name == "workdir") {
		return errOldKernel // longer than 256 bytes
	}
	if err != nil {
		return fmt.Errorf("overlay option %q: %w", option, err)
	}
	return nil
}

func (o *overlay) addLower(fs int, dir string) error {
	if !o.IDMapped {
		err := unix.FsconfigSetString(fs, "lowerdir+", dir)
		if errors.Is(err, unix.EINVAL) {
			return errOldKernel
		}
		if err != nil {
			return pathError("layer", dir, err)
		}
		return nil
	}
	tree, err := o.mappedLayer(dir)
	if err != nil {
		return err
	}
	o.layers = append(o.layers, tree)
	if err := unix.FsconfigSetFd(fs, "lowerdir+", int(tree.Fd())); err != nil {
		return errOldKernel
	}
	return nil
}

// mappedLayer is a layer's directory with mapped ids, as a detached mount.
func (o *overlay) mappedLayer(dir string) (*os.File, error) {
	tree, err := cloneTree(unix.AT_FDCWD, dir, false)
	if err != nil {
		return nil, err
	}
	if err := o.idmap.apply(int(tree.Fd()), o.uids, o.gids, false); err != nil {
		_ = tree.Close()
		return nil, err
	}
	return tree, nil
}

// options are the options besides the layers. A container's writable layer trusts
// no metadata that the container could have left in it.
func (o *overlay) options() []string {
	list := []string{"source=overlay", "index=off", "metacopy=off", "redirect_dir=nofollow"}
	if o.Upper != "" {
		list = append(list, "upperdir="+o.Upper, "workdir="+o.Work)
		if o.Volatile {
			list = append(list, "volatile")
		}
	}
	return list
}

func (o *overlay) describe() string {
	s := strconv.Itoa(len(o.Lower)) + " layers"
	if o.Upper != "" {
		s += fmt.Sprintf(", upper %q, work %q", o.Upper, o.Work)
	}
	return s
}
