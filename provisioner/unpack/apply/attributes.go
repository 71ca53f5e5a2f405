package apply

import (
	"archive/tar"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// mode returns the permission, set-id and sticky bits.
func mode(h *tar.Header) uint32 { return uint32(h.Mode & 0o7777) }

// times are those of access and modification.
func times(h *tar.Header) [2]unix.Timespec {
	a := h.AccessTime
	if a.IsZero() {
		a = h.ModTime
	}
	return [2]unix.Timespec{timespec(a), timespec(h.ModTime)}
}

// timespec keeps to what file systems can store: 34 bits of seconds on ext4.
func timespec(t time.Time) unix.Timespec {
	const most, least = 1<<34 - 1<<31 - 1, -1 << 31
	sec := min(max(t.Unix(), least), most)
	return unix.Timespec{Sec: sec, Nsec: int64(t.Nanosecond())}
}

func (u *unpacker) setTimes(base string, h *tar.Header) error {
	ts := times(h)
	if err := unix.UtimesNanoAt(u.dirs.top(), base, ts[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}

// setDirTimes sets the times of all directories after everything was put into
// them. Sorted, each is near the one before. A directory that was not listed gets
// the epoch, so that equal archives give equal layers.
func (u *unpacker) setDirTimes() error {
	for path := range u.notes.implicit {
		u.notes.times[path] = [2]unix.Timespec{}
	}
	for _, path := range sortedKeys(u.notes.times) {
		parent, base := "", "."
		if path != "" {
			parent, base = cutLast(path)
		}
		if err := u.findDir(parent); err != nil {
			return err
		}
		ts := u.notes.times[path]
		if err := unix.UtimesNanoAt(u.dirs.top(), base, ts[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("%q: %w", path, err)
		}
	}
	return nil
}

// findDir enters a directory that this layer has.
func (u *unpacker) findDir(path string) error {
	var parts []string
	if path != "" {
		parts = strings.Split(path, "/")
	}
	ok, err := u.dirs.find(parts)
	if err == nil && !ok {
		err = fmt.Errorf("directory %q of this layer is gone: %w", path, containerizer.ErrDataCorrupt)
	}
	return err
}

// cutLast splits a path into directory and name.
func cutLast(path string) (dir, base string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

// setLate gives directories what their children were not to inherit.
func (u *unpacker) setLate() error {
	for _, path := range sortedKeys(u.notes.late) {
		if err := u.findDir(path); err != nil {
			return err
		}
		late := u.notes.late[path]
		if late.acl != "" {
			h := &tar.Header{Name: path, PAXRecords: map[string]string{paxXattr + defaultACL: late.acl}}
			if err := u.xattrs(u.dirs.top(), h); err != nil {
				return fmt.Errorf("%q: %w", path, err)
			}
		}
		if err := unix.Fchmod(u.dirs.top(), late.mode); err != nil {
			return fmt.Errorf("chmod %q: %w", path, err)
		}
	}
	return nil
}

const (
	setGID     = unix.S_ISGID
	defaultACL = "system.posix_acl_default"
)

const paxXattr = "SCHILY.xattr."

// xattrs sets the extended attributes that an image may set. An archive cannot
// set those that overlayfs interprets, nor labels of the host's policy.
func (u *unpacker) xattrs(fd int, h *tar.Header) error {
	total := 0
	for _, key := range sortedXattrs(h) {
		name, value := strings.TrimPrefix(key, paxXattr), h.PAXRecords[key]
		if total += len(name) + len(value); total > u.limits.XattrBytes {
			return fmt.Errorf("the extended attributes have more than %d bytes: %w", u.limits.XattrBytes, containerizer.ErrResourceExhausted)
		}
		if !allowedXattr(name) {
			u.warn("%q: the extended attribute %q was left out", printable(h.Name), printable(name))
			continue
		}
		switch err := unix.Fsetxattr(fd, name, []byte(value), 0); err {
		case nil:
		case unix.EOPNOTSUPP:
			u.warn("%q: the file system has no extended attribute %q", printable(h.Name), printable(name))
		default:
			return fmt.Errorf("set extended attribute %q: %w", printable(name), err)
		}
	}
	return nil
}

// hasXattrs says whether an entry has extended attributes.
func hasXattrs(h *tar.Header) bool {
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, paxXattr) {
			return true
		}
	}
	return false
}

func sortedXattrs(h *tar.Header) []string {
	var keys []string
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, paxXattr) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

func allowedXattr(name string) bool {
	switch {
	case strings.HasPrefix(name, "user.overlay."): // as trusted.overlay. in a user namespace
		return false
	case strings.HasPrefix(name, "user."):
		return true
	}
	return name == "security.capability" || name == "system.posix_acl_access" || name == defaultACL
}

// node makes a FIFO, or a device that every container has anyway. A character
// device 0:0 is the form of a whiteout (and how some tools export one).
func (u *unpacker) node(h *tar.Header, base string) error {
	kind, dev := uint32(unix.S_IFIFO), 0
	switch h.Typeflag {
	case tar.TypeChar, tar.TypeBlock:
		if h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0 {
			return u.whiteout(base)
		}
		if h.Typeflag == tar.TypeBlock || !harmlessDevice(h.Devmajor, h.Devminor) {
			u.warn("%q: the device %d:%d was left out; give devices to a container when it is run", printable(h.Name), h.Devmajor, h.Devminor)
			return nil
		}
		kind, dev = unix.S_IFCHR, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
	}
	err := unix.Mknodat(u.dirs.top(), base, kind|0o600, dev)
	if err == unix.EEXIST {
		if err := u.clear(base); err != nil {
			return err
		}
		err = unix.Mknodat(u.dirs.top(), base, kind|0o600, dev)
	}
	if err != nil {
		return fmt.Errorf("make node: %w", err)
	}
	if err := unix.Fchownat(u.dirs.top(), base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("chown: %w", err)
	}
	// Nobody else writes here and it is not a link: we have just made it.
	if err := unix.Fchmodat(u.dirs.top(), base, mode(h), 0); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	return u.setTimes(base, h)
}

// harmlessDevice knows null, zero, full, random, urandom, tty, console and ptmx.
func harmlessDevice(major, minor int64) bool {
	switch major {
	case 1:
		return minor == 3 || minor == 5 || minor >= 7 && minor <= 9
	case 5:
		return minor >= 0 && minor <= 2
	}
	return false
}
