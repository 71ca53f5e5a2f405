package apply

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/unpack"
)

// archiveEntries bounds the entries of an archive without a limit of its own.
const archiveEntries = 1_000_000

// archiveChild is the child that extracts an archive.
func archiveChild(conf string) (*unpack.Result, error) {
	var x containerizer.Extraction
	if err := json.Unmarshal([]byte(conf), &x); err != nil {
		return nil, fmt.Errorf("extraction %q: %w: %w", conf, err, containerizer.ErrInvalid)
	}
	root, err := confine(unpack.TargetFD)
	if err != nil {
		return nil, fmt.Errorf("confine the unpacking process: %w", err)
	}
	defer func() { _ = unix.Close(root) }()
	return Archive(root, os.Stdin, x)
}

// Archive extracts an archive that is no layer into the empty directory root: no
// whiteouts, no owners of its own, no set-id bits, devices or extended attributes.
// in is a regular file at its beginning. Preconditions are those of Layer.
func Archive(root int, in *os.File, x containerizer.Extraction) (*unpack.Result, error) {
	st, err := in.Stat()
	if err != nil {
		return nil, fmt.Errorf("the archive: %w", err)
	}
	limits := unpack.Limits{Bytes: x.MaxBytes, Entries: or(x.MaxEntries, archiveEntries)}.WithDefaults()
	u := newUnpacker(root, limits)
	defer u.dirs.close()
	defer u.notes.close()
	u.plain = true
	u.notes.implicit = map[string]struct{}{}
	u.dirs.created = func(string, replacement) error { return nil }
	u.dirs.uid, u.dirs.gid = int(x.Owner.UID), int(x.Owner.GID)
	a := &archive{unpacker: u, owner: x.Owner, size: st.Size()}
	switch x.Kind {
	case containerizer.ArchiveTar:
		err = a.tar(in)
	case containerizer.ArchiveZip:
		err = a.zip(in)
	case containerizer.ArchiveFile:
		err = a.single(in, x.Name)
	default:
		err = fmt.Errorf("archives of the kind %q: %w", x.Kind, containerizer.ErrUnsupported)
	}
	if err != nil {
		return nil, err
	}
	if err := u.setLate(); err != nil {
		return nil, fmt.Errorf("set the attributes of directories: %w", classify(err))
	}
	if err := u.setDirTimes(); err != nil {
		return nil, fmt.Errorf("set the times of directories: %w", classify(err))
	}
	return u.result(), nil
}

func or(v, fallback int64) int64 {
	if v == 0 {
		return fallback
	}
	return v
}

// archive extracts one archive.
type archive struct {
	*unpacker
	owner containerizer.Owner
	size  int64 // of the file
}

// charged counts content whose size nobody has said.
type charged struct {
	r io.Reader
	a *archive
}

func (c *charged) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if cerr := c.a.charge(int64(n)); cerr != nil {
		return 0, cerr
	}
	return n, err
}

func (a *archive) tar(in io.Reader) error {
	z, err := a.decompress(in)
	if err != nil {
		return err
	}
	defer func() { _ = z.Close() }() // all that counts was read
	t := tar.NewReader(z)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return tarError(err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := a.add(h, t); err != nil {
			return err
		}
	}
	_, err = io.Copy(io.Discard, z) // checksums come last
	return err
}

// add makes one entry, as of this owner.
func (a *archive) add(h *tar.Header, content io.Reader) error {
	if a.entries++; a.entries > a.limits.Entries {
		return fmt.Errorf("the archive has more than %d entries: %w", a.limits.Entries, containerizer.ErrResourceExhausted)
	}
	if err := a.place(h, content); err != nil {
		return fmt.Errorf("entry %q: %w", printable(h.Name), classify(err))
	}
	return nil
}

func (a *archive) place(h *tar.Header, content io.Reader) error {
	parts, err := a.split(h.Name)
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		if h.Typeflag != tar.TypeDir {
			return invalid("the entry for the root is not a directory")
		}
		return nil // the directory is not the archive's
	}
	if err := a.dirs.enter(parts[:len(parts)-1]); err != nil {
		return err
	}
	h.Uid, h.Gid = int(a.owner.UID), int(a.owner.GID)
	h.Mode &= 0o777
	maps.DeleteFunc(h.PAXRecords, func(k, _ string) bool { return strings.HasPrefix(k, paxXattr) })
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock || h.Typeflag == tar.TypeFifo {
		a.warn("%q is a device or FIFO and was left out", printable(h.Name))
		return nil
	}
	return a.create(h, parts[len(parts)-1], content)
}

// single writes one compressed file.
func (a *archive) single(in io.Reader, name string) error {
	z, err := a.decompress(in)
	if err != nil {
		return err
	}
	defer func() { _ = z.Close() }() // all that counts was read
	if name == "" || strings.ContainsRune(name, '/') {
		return invalid("%q is no file name", printable(name))
	}
	h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, ModTime: time.Now()}
	return a.add(h, &charged{z, a})
}
