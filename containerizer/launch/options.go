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
}

// superblockOptions are flags of mount(2) that no mount attribute has.
//
//nolint:gochecknoglobals // a constant table
var superblockOptions = [...]mountOption{
	{name: "sync", flag: unix.MS_SYNCHRONOUS},
	{name: "dirsync", flag: unix.MS_DIRSYNC},
	{name: "mand", flag: unix.MS_MANDLOCK},
	{name: "silent", flag: unix.MS_SILENT},
	{name: "lazytime", flag: unix.MS_LAZYTIME},
	{name: "iversion", flag: unix.MS_I_VERSION},
}

// neutralOptions say what is so anyway.
const neutralOptions = " defaults async nomand loud nolazytime noiversion norelatime nostrictatime "

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
// "Linux mount options"). What is not a flag is data of the filesystem.
func ParseMountOptions(options []string) (MountOptions, error) {
	var m MountOptions
	for _, o := range options {
		if err := m.add(o); err != nil {
			return m, err
		}
	}
	return m, nil
}

func (m *MountOptions) add(o string) error {
	switch o {
	case "":
		return fmt.Errorf("an empty mount option: %w", containerizer.ErrInvalid)
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
	for _, t := range mountOptions {
		switch o {
		case t.name:
			m.Attributes.apply(t)
			m.Flags = m.Flags&^flagsOf(t.clear&^t.set) | t.flag
			return nil
		case "r" + t.name: // "rro": the whole tree below
			m.RecursiveAttributes.apply(t)
			return nil
		}
	}
	for _, t := range superblockOptions {
		if o == t.name {
			m.Flags |= t.flag
			return nil
		}
	}
	if !strings.Contains(neutralOptions, " "+o+" ") {
		m.Data = append(m.Data, o)
	}
	return nil
}

func (a *Attributes) apply(t mountOption) {
	a.Set = a.Set&^(t.clear|t.set) | t.set
	a.Clear = a.Clear&^t.set | t.clear
	if t.clear&unix.MOUNT_ATTR__ATIME != 0 {
		// The kernel wants the whole field cleared when a part of it is set.
		a.Clear |= unix.MOUNT_ATTR__ATIME
	}
}

// flagsOf are the MS_ flags that belong to attribute bits.
func flagsOf(attributes uint64) uint64 {
	var flags uint64
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
