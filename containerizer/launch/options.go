package launch

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// MountOptions are the options of a mount, taken apart.
type MountOptions struct {
	// Bind and Recursive are from "bind" and "rbind".
	Bind, Recursive bool
	// Flags are MS_ flags for mount(2) of a new filesystem.
	Flags uint64
	// Attributes and RecursiveAttributes are the same for mount_setattr(2).
	Attributes, RecursiveAttributes Attributes
	// Propagation is MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE, with MS_REC
	// for the recursive forms; 0 when not given.
	Propagation           uint64
	IDMap, IDMapRecursive bool
	// Data are the options that belong to the filesystem.
	Data []string
}

// mountOption is what an option does: attribute bits set or cleared, and the flag
// of mount(2).
type mountOption struct {
	name       string
	set, clear uint64
	flag       uint64
}

// mountOptions is the table of mount(8) options that are flags. atime options
// share one field of mount_setattr(2), which is cleared before it is set.
//
//nolint:gochecknoglobals // a constant table
var mountOptions = [...]mountOption{
	{name: "ro", set: unix.MOUNT_ATTR_RDONLY, flag: unix.MS_RDONLY},
	{name: "rw", clear: unix.MOUNT_ATTR_RDONLY},
	{name: "nosuid", set: unix.MOUNT_ATTR_NOSUID, flag: unix.MS_NOSUID},
	{name: "suid", clear: unix.MOUNT_ATTR_NOSUID},
	{name: "nodev", set: unix.MOUNT_ATTR_NODEV, flag: unix.MS_NODEV},
	{name: "dev", clear: unix.MOUNT_ATTR_NODEV},
	{name: "noexec", set: unix.MOUNT_ATTR_NOEXEC, flag: unix.MS_NOEXEC},
	{name: "exec", clear: unix.MOUNT_ATTR_NOEXEC},
	{name: "nodiratime", set: unix.MOUNT_ATTR_NODIRATIME, flag: unix.MS_NODIRATIME},
	{name: "diratime", clear: unix.MOUNT_ATTR_NODIRATIME},
	{name: "nosymfollow", set: unix.MOUNT_ATTR_NOSYMFOLLOW, flag: unix.MS_NOSYMFOLLOW},
	{name: "symfollow", clear: unix.MOUNT_ATTR_NOSYMFOLLOW},
	{name: "noatime", set: unix.MOUNT_ATTR_NOATIME, clear: unix.MOUNT_ATTR__ATIME, flag: unix.MS_NOATIME},
	{name: "relatime", set: unix.MOUNT_ATTR_RELATIME, clear: unix.MOUNT_ATTR__ATIME, flag: unix.MS_RELATIME},
	{name: "strictatime", set: unix.MOUNT_ATTR_STRICTATIME, clear: unix.MOUNT_ATTR__ATIME, flag: unix.MS_STRICTATIME},
	{name: "atime", set: unix.MOUNT_ATTR_RELATIME, clear: unix.MOUNT_ATTR__ATIME},
	{name: "nostrictatime", clear: unix.MOUNT_ATTR_STRICTATIME},
	{name: "norelatime"}, // the other two have options of their own
}

// superblockOptions are flags of mount(2) that no mount attribute has.
//
//nolint:gochecknoglobals // a constant table
var superblockOptions = [...]struct {
	set, clear string
	flag       uint64
}{
	{"sync", "async", unix.MS_SYNCHRONOUS},
	{"dirsync", "", unix.MS_DIRSYNC},
	{"mand", "nomand", unix.MS_MANDLOCK},
	{"silent", "loud", unix.MS_SILENT},
	{"lazytime", "nolazytime", unix.MS_LAZYTIME},
	{"iversion", "noiversion", unix.MS_I_VERSION},
}

//nolint:gochecknoglobals // a constant table
var propagations = [...]struct {
	name string
	flag uint64
}{
	{"private", unix.MS_PRIVATE},
	{"shared", unix.MS_SHARED},
	{"slave", unix.MS_SLAVE},
	{"unbindable", unix.MS_UNBINDABLE},
}

// ParseMountOptions takes the options of a mount apart (runtime-spec, config.md
// "Linux mount options"). What is not a flag is data of the filesystem. Of options
// that exclude each other the last one counts.
func ParseMountOptions(options []string) (MountOptions, error) {
	var m MountOptions
	for _, o := range options {
		if err := m.add(o); err != nil {
			return m, err
		}
	}
	return m, nil
}

// checkBind refuses what a bind mount has no use for: its filesystem is there already.
func (m *MountOptions) checkBind() error {
	if len(m.Data) > 0 {
		return fmt.Errorf("mount option %q is unknown, or not one of bind mounts: %w", m.Data[0], containerizer.ErrInvalid)
	}
	return nil
}

func (m *MountOptions) add(o string) error {
	switch o {
	case "":
		return fmt.Errorf("an empty mount option: %w", containerizer.ErrInvalid)
	case "defaults":
		return nil
	case "bind":
		m.Bind = true
		return nil
	case "rbind":
		m.Bind, m.Recursive = true, true
		return nil
	case "idmap":
		m.IDMap = true
		return nil
	case "ridmap":
		m.IDMap, m.IDMapRecursive = true, true
		return nil
	case "tmpcopyup":
		return fmt.Errorf("mount option %q copies image content into a tmpfs, which berth does not do: %w", o, containerizer.ErrUnsupported)
	}
	if flag, ok := Propagation(o); ok {
		m.Propagation = flag
		return nil
	}
	if m.addFlag(o) {
		return nil
	}
	if strings.ContainsRune(o, 0) {
		return fmt.Errorf("mount option %q contains NUL: %w", o, containerizer.ErrInvalid)
	}
	m.Data = append(m.Data, o)
	return nil
}

// addFlag is false when o is no flag.
func (m *MountOptions) addFlag(o string) bool {
	for _, t := range mountOptions {
		switch o {
		case t.name:
			m.Attributes.apply(t)
			m.Flags = m.Flags&^flagsOf(t.clear&^t.set) | t.flag
			return true
		case "r" + t.name: // "rro": the whole tree below
			m.RecursiveAttributes.apply(t)
			return true
		}
	}
	for _, t := range superblockOptions {
		switch o {
		case t.set:
			m.Flags |= t.flag
			return true
		case t.clear:
			m.Flags &^= t.flag
			return true
		}
	}
	return false
}

func (a *Attributes) apply(t mountOption) {
	a.Set = a.Set&^(t.clear|t.set) | t.set
	a.Clear = a.Clear&^t.set | t.clear
	if t.clear&unix.MOUNT_ATTR__ATIME != 0 {
		// The kernel wants the whole field cleared when a part of it is set.
		a.Clear |= unix.MOUNT_ATTR__ATIME
	}
}

// flagsOf are the MS_ flags that belong to attribute bits. That of relatime, which
// is what there is without any, has none and goes with the other two.
func flagsOf(attributes uint64) uint64 {
	var flags uint64
	if attributes&unix.MOUNT_ATTR__ATIME != 0 {
		flags = unix.MS_RELATIME
	}
	for _, t := range mountOptions {
		if t.set != 0 && t.set&^attributes == 0 {
			flags |= t.flag
		}
	}
	return flags
}

// Propagation returns the MS_ flag of a propagation mode such as "rslave".
func Propagation(name string) (flag uint64, ok bool) {
	for _, p := range propagations {
		switch name {
		case p.name:
			return p.flag, true
		case "r" + p.name:
			return p.flag | unix.MS_REC, true
		}
	}
	return 0, false
}
