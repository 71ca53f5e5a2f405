package apply

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/unpack"
)

// openFlags make a new file and never open an old one.
const openFlags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC

// clear makes room for a new entry.
func (u *unpacker) clear(base string) error {
	isDir, err := u.clearFile(base)
	if err != nil || !isDir {
		return err
	}
	if err := u.removeTree(u.dirs.top(), base, join(u.dirs.path(), base)); err != nil {
		return fmt.Errorf("remove the earlier directory: %w", err)
	}
	return nil
}

// clearFile removes what is there, unless it is a directory.
func (u *unpacker) clearFile(base string) (isDir bool, err error) {
	top := u.dirs.top()
	var st unix.Stat_t
	if err := unix.Fstatat(top, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, fmt.Errorf("stat: %w", err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return true, nil
	}
	if err := unix.Unlinkat(top, base, 0); err != nil {
		return false, fmt.Errorf("unlink the earlier entry: %w", err)
	}
	return false, nil
}

// removeTree removes a directory of this layer. Depth is bounded by the limit of
// names; what it costs was paid for by the entries that made it.
func (u *unpacker) removeTree(dir int, name, path string) error {
	fd, err := unix.Openat(dir, name, dirFlags, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	for {
		names, err := readNames(fd)
		if err != nil {
			return fmt.Errorf("list %q: %w", path, err)
		}
		if len(names) == 0 {
			break
		}
		for _, n := range names {
			err := unix.Unlinkat(fd, n, 0)
			if errors.Is(err, unix.EISDIR) {
				err = u.removeTree(fd, n, join(path, n))
			}
			if err != nil {
				return fmt.Errorf("unlink %q: %w", join(path, n), err)
			}
		}
		if _, err := unix.Seek(fd, 0, io.SeekStart); err != nil {
			return fmt.Errorf("rewind %q: %w", path, err)
		}
	}
	u.notes.forget(path)
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

// readNames reads some names of an open directory, without "." and "..".
func readNames(fd int) ([]string, error) {
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil || n <= 0 {
			return nil, err
		}
		if _, _, names := unix.ParseDirent(buf[:n], -1, nil); len(names) > 0 {
			return names, nil
		}
	}
}

func (u *unpacker) directory(h *tar.Header, base string) error {
	err := unix.Mkdirat(u.dirs.top(), base, mode(h)&^setGID)
	isNew := true
	switch err {
	case nil:
		u.disk += blockSize
	case unix.EEXIST:
		isDir, err := u.clearFile(base)
		if err != nil {
			return err
		}
		if isDir {
			isNew = false
			break
		}
		if err := unix.Mkdirat(u.dirs.top(), base, mode(h)&^setGID); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
		u.notes.renew(join(u.dirs.path(), base))
		if err := u.checkNotes(); err != nil {
			return err
		}
	default:
		return fmt.Errorf("make directory: %w", err)
	}
	if _, err := u.dirs.step(base, reportMissing); err != nil {
		return err
	}
	path := u.dirs.path()
	delete(u.notes.implicit, path)
	u.notes.times[path] = times(h)
	if isNew && h.Uid == 0 && h.Gid == 0 && mode(h)&^0o1777 == 0 && !hasXattrs(h) {
		return nil // mkdir(2) did all of it
	}
	return u.dirAttributes(u.dirs.top(), path, h)
}

// dirAttributes leaves what children would inherit, the set-group-ID bit and the
// default ACL, to the end.
func (u *unpacker) dirAttributes(fd int, path string, h *tar.Header) error {
	if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
		return fmt.Errorf("chown: %w", err)
	}
	acl, inherited := h.PAXRecords[paxXattr+defaultACL]
	if inherited {
		delete(h.PAXRecords, paxXattr+defaultACL)
	}
	if err := u.xattrs(fd, h); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, mode(h)&^setGID); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	if !inherited {
		acl = u.notes.late[path].acl // of an earlier entry
	}
	delete(u.notes.late, path)
	if inherited || acl != "" || mode(h)&setGID != 0 {
		u.notes.late[path] = lateDir{mode: mode(h), acl: acl}
	}
	return u.checkNotes()
}

func (u *unpacker) file(h *tar.Header, base string, content io.Reader) error {
	if err := u.charge(h.Size); err != nil {
		return err
	}
	fd, err := unix.Openat(u.dirs.top(), base, openFlags, mode(h)&0o777)
	if errors.Is(err, unix.EEXIST) {
		if err := u.clear(base); err != nil {
			return err
		}
		fd, err = unix.Openat(u.dirs.top(), base, openFlags, mode(h)&0o777)
	}
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if u.writer != nil && !sparse(h) && h.Size <= smallFile && !hasXattrs(h) {
		u.disk += blocks(h.Size)
		return u.writer.add(fd, h, content)
	}
	defer func() { _ = unix.Close(fd) }() // a failed write was reported by write
	if sparse(h) {
		err = u.writeSparse(fd, content, h.Size)
	} else {
		u.disk += blocks(h.Size)
		err = u.write(fd, content)
	}
	if err != nil {
		return err
	}
	return u.fileAttributes(fd, h)
}

// fileAttributes sets owner and attributes, of which chown clears capabilities.
func (u *unpacker) fileAttributes(fd int, h *tar.Header) error {
	a := attributesOf(h)
	if hasXattrs(h) {
		if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
			return fmt.Errorf("chown: %w", err)
		}
		a.uid, a.gid = 0, 0 // done
		if err := u.xattrs(fd, h); err != nil {
			return err
		}
	}
	return a.set(fd)
}

func (u *unpacker) write(fd int, content io.Reader) error {
	for {
		n, err := content.Read(u.buf)
		if n > 0 {
			if err := writeAll(fd, u.buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return tarError(err)
		}
	}
}

// blocks rounds n up to whole blocks.
func blocks(n int64) int64 { return (n + blockSize - 1) &^ (blockSize - 1) }

func writeAll(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		p = p[n:]
	}
	return nil
}

func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// writeSparse leaves holes where the archive has them: the reader gives zeros there.
func (u *unpacker) writeSparse(fd int, content io.Reader, size int64) error {
	for {
		n, err := io.ReadFull(content, u.buf)
		if p := u.buf[:n]; !zero(p) {
			if err := writeAll(fd, p); err != nil {
				return err
			}
			u.disk += blocks(int64(n))
		} else if _, err := unix.Seek(fd, int64(n), io.SeekCurrent); err != nil {
			return fmt.Errorf("seek: %w", err)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return tarError(err)
		}
	}
	if at, err := unix.Seek(fd, 0, io.SeekCurrent); err != nil || at != size {
		return fmt.Errorf("the archive ends within the file: %w", containerizer.ErrDataCorrupt)
	}
	if err := unix.Ftruncate(fd, size); err != nil {
		return fmt.Errorf("truncate: %w", err)
	}
	return nil
}

func zero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

func (u *unpacker) symlink(h *tar.Header, base string) error {
	if h.Linkname == "" || strings.IndexByte(h.Linkname, 0) >= 0 {
		return invalid("the symbolic link has no valid target")
	}
	err := unix.Symlinkat(h.Linkname, u.dirs.top(), base)
	if err == unix.EEXIST {
		if err := u.clear(base); err != nil {
			return err
		}
		err = unix.Symlinkat(h.Linkname, u.dirs.top(), base)
	}
	if err != nil {
		return fmt.Errorf("make symbolic link: %w", err)
	}
	if err := unix.Fchownat(u.dirs.top(), base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("chown: %w", err)
	}
	return u.setTimes(base, h)
}

// link makes a hard link; the target is a path from the root, links in its
// parents are followed inside the root, a link itself is linked, not followed.
func (u *unpacker) link(h *tar.Header, base string) error {
	target, err := u.split(h.Linkname)
	if err != nil || len(target) == 0 {
		return invalid("the hard link's target %q is not valid", printable(h.Linkname))
	}
	for _, c := range target {
		if strings.HasPrefix(c, whiteoutPrefix) && !u.plain {
			return invalid("the hard link's target %q is a whiteout", printable(h.Linkname))
		}
	}
	tdir, err := openInRoot(u.dirs.root, strings.Join(target[:len(target)-1], "/"))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return u.foreignLink(base, target)
	}
	if err != nil {
		return fmt.Errorf("open the directory of the hard link's target %q: %w", printable(h.Linkname), err)
	}
	defer func() { _ = unix.Close(tdir) }()
	tbase := target[len(target)-1]
	var st unix.Stat_t
	switch err := unix.Fstatat(tdir, tbase, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case err == unix.ENOENT:
		return u.foreignLink(base, target)
	case err != nil:
		return fmt.Errorf("stat the hard link's target %q: %w", printable(h.Linkname), err)
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return invalid("the hard link's target %q is a directory", printable(h.Linkname))
	case whiteoutNode(&st):
		return invalid("the hard link's target %q is a whiteout", printable(h.Linkname))
	}
	return u.linkTo(tdir, tbase, base, &st)
}

func (u *unpacker) linkTo(tdir int, tbase, base string, target *unix.Stat_t) error {
	for i, ino := range u.notes.linkNode {
		if ino == target.Ino { // the target is itself to come from a lower layer
			return u.foreignLink(base, strings.Split(u.notes.links[i].Target, "/"))
		}
	}
	err := unix.Linkat(tdir, tbase, u.dirs.top(), base, 0)
	if err == unix.EEXIST {
		var st unix.Stat_t
		if unix.Fstatat(u.dirs.top(), base, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Ino == target.Ino {
			return nil // it is that file already
		}
		if err := u.clear(base); err != nil {
			return err
		}
		err = unix.Linkat(tdir, tbase, u.dirs.top(), base, 0)
	}
	if err != nil {
		return fmt.Errorf("make hard link: %w", err)
	}
	return nil
}

// foreignLink holds a place for a link to a file that only a lower layer can have.
func (u *unpacker) foreignLink(base string, target []string) error {
	if u.plain {
		return invalid("the hard link's target %q is not in the archive", printable(strings.Join(target, "/")))
	}
	const most = 4096 // each later link looks through them
	if len(u.notes.links) >= most {
		return fmt.Errorf("the layer has more than %d hard links to files of lower layers: %w", most, containerizer.ErrResourceExhausted)
	}
	fd, err := unix.Openat(u.dirs.top(), base, openFlags, 0)
	if err == unix.EEXIST {
		if err := u.clear(base); err != nil {
			return err
		}
		fd, err = unix.Openat(u.dirs.top(), base, openFlags, 0)
	}
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	// It stays open: its inode number must not be given to another file.
	u.notes.linkFD = append(u.notes.linkFD, fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	u.notes.links = append(u.notes.links, unpack.Link{Path: join(u.dirs.path(), base), Target: strings.Join(target, "/")})
	u.notes.linkNode = append(u.notes.linkNode, st.Ino)
	return u.checkNotes()
}

// openInRoot opens a directory below root for lookups, following links inside it.
func openInRoot(root int, path string) (int, error) {
	if path == "" {
		path = "."
	}
	for {
		fd, err := unix.Openat2(root, path, &unix.OpenHow{
			Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
		})
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}
