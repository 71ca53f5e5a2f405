package apply

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/unpack"
)

const (
	whiteoutPrefix = ".wh."
	metaPrefix     = ".wh..wh."
	opaqueMarker   = ".wh..wh..opq"

	maxWarnings = 20
	blockSize   = 4096
)

// Layer unpacks the compressed tar stream r into the empty directory root, which
// stays open. Preconditions: the umask is 0, and nobody else writes in root.
func Layer(root int, r io.Reader, limits unpack.Limits) (*unpack.Result, error) {
	limits = limits.WithDefaults()
	s := newStream(r, limits)
	defer s.close()
	u := newUnpacker(root, limits)
	if !single(limits) {
		u.writer = newWriter()
	}
	defer u.dirs.close()
	defer u.notes.close()
	defer func() { _ = u.writer.close() }() // its error was seen if it still matters
	if err := u.all(tar.NewReader(s)); err != nil {
		return nil, err
	}
	d, n, err := s.finish()
	if err != nil {
		return nil, err
	}
	res := u.result()
	res.DiffID, res.TarBytes = d, n
	return res, nil
}

// unpacker holds the state of one layer.
type unpacker struct {
	dirs   *dirStack
	limits unpack.Limits
	plain  bool // an archive that is no layer: nothing lies below it
	notes  notes
	buf    []byte
	writer *writer // nil does the same at once

	entries, bytes, disk int64
	warnings             []string
	aufs                 int // entries of aufs that were left out
}

func newUnpacker(root int, limits unpack.Limits) *unpacker {
	u := &unpacker{limits: limits, notes: newNotes(), buf: make([]byte, 128<<10)}
	u.dirs = &dirStack{root: root, created: u.implicitDir}
	u.notes.implicit[""] = struct{}{}
	return u
}

func (u *unpacker) all(t *tar.Reader) error {
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
		if u.entries++; u.entries > u.limits.Entries {
			return fmt.Errorf("the layer has more than %d entries: %w", u.limits.Entries, containerizer.ErrResourceExhausted)
		}
		if err := u.entry(h, t); err != nil {
			return fmt.Errorf("entry %q: %w", printable(h.Name), classify(err))
		}
	}
	if err := u.writer.close(); err != nil {
		return err
	}
	if err := u.setLate(); err != nil {
		return fmt.Errorf("set the attributes of directories: %w", classify(err))
	}
	if err := u.setDirTimes(); err != nil {
		return fmt.Errorf("set the times of directories: %w", classify(err))
	}
	return u.dropLostLinks()
}

// tarError classes what the tar reader said; errors of the stream have a class.
func tarError(err error) error {
	if errors.Is(err, containerizer.ErrDataCorrupt) || errors.Is(err, containerizer.ErrResourceExhausted) || errors.Is(err, containerizer.ErrUnsupported) {
		return err
	}
	return fmt.Errorf("read the tar archive: %w: %w", err, containerizer.ErrDataCorrupt)
}

// classify adds the class to errors of the kernel.
func classify(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("%w: %w", err, containerizer.ErrResourceExhausted)
	case errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.EFBIG), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EMLINK):
		return fmt.Errorf("%w: %w", err, containerizer.ErrInvalid)
	}
	return err
}

func printable(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, containerizer.ErrInvalid)...)
}

// split cuts a name into its components. ".." is an error, not clamped: no
// honest layer has it.
func (u *unpacker) split(name string) ([]string, error) {
	if name == "" {
		return nil, invalid("the name is empty")
	}
	var out []string
	for c := range strings.SplitSeq(name, "/") {
		switch {
		case c == "" || c == ".":
			continue
		case c == "..":
			return nil, invalid("the name has a \"..\"")
		case len(c) > unix.NAME_MAX:
			return nil, invalid("a component has %d bytes, at most %d are possible", len(c), unix.NAME_MAX)
		case strings.IndexByte(c, 0) >= 0:
			return nil, invalid("the name holds a NUL byte")
		}
		out = append(out, c)
	}
	if len(out) > u.limits.Depth {
		return nil, fmt.Errorf("the name is %d deep, at most %d are allowed: %w", len(out), u.limits.Depth, containerizer.ErrResourceExhausted)
	}
	return out, nil
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	parts, err := u.split(h.Name)
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		return u.rootEntry(h)
	}
	parent, base := parts[:len(parts)-1], parts[len(parts)-1]
	for i, c := range parts {
		if !strings.HasPrefix(c, whiteoutPrefix) {
			continue
		}
		switch {
		case strings.HasPrefix(c, metaPrefix) && (c != opaqueMarker || i < len(parts)-1):
			u.aufs++
			return nil
		case i < len(parts)-1:
			return invalid("a whiteout is used as a directory")
		}
	}
	if err := u.dirs.enter(parent); err != nil {
		return err
	}
	switch {
	case base == opaqueMarker:
		return u.markOpaque()
	case strings.HasPrefix(base, whiteoutPrefix):
		return u.whiteout(strings.TrimPrefix(base, whiteoutPrefix))
	}
	return u.create(h, base, content)
}

// rootEntry applies "./" to the layer's root.
func (u *unpacker) rootEntry(h *tar.Header) error {
	if h.Typeflag != tar.TypeDir {
		return invalid("the entry for the root is not a directory") // CVE-2021-29136
	}
	if err := u.dirs.enter(nil); err != nil {
		return err
	}
	delete(u.notes.implicit, "")
	u.notes.times[""] = times(h)
	return u.dirAttributes(u.dirs.top(), "", h)
}

// create makes what h describes as base in the directory entered.
func (u *unpacker) create(h *tar.Header, base string, content io.Reader) error {
	if err := checkOwner(h); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.directory(h, base)
	case tar.TypeReg, tar.TypeRegA, tar.TypeCont, tar.TypeGNUSparse: //nolint:staticcheck // TypeRegA comes from old archives
		return u.file(h, base, content)
	case tar.TypeSymlink:
		return u.symlink(h, base)
	case tar.TypeLink:
		return u.link(h, base)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return u.node(h, base)
	}
	if h.Typeflag >= 'A' && h.Typeflag <= 'Z' {
		u.warn("%q has the vendor type %q and was left out", printable(h.Name), rune(h.Typeflag))
		return nil
	}
	return invalid("the type %q is unknown", rune(h.Typeflag))
}

// checkOwner refuses ids the kernel would take for something else: (uid_t)-1
// means "no change" to chown(2).
func checkOwner(h *tar.Header) error {
	const most = 1<<32 - 2
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) > most || int64(h.Gid) > most {
		return invalid("owner %d:%d is out of range", h.Uid, h.Gid)
	}
	return nil
}

func (u *unpacker) warn(format string, args ...any) {
	switch {
	case len(u.warnings) < maxWarnings:
		u.warnings = append(u.warnings, fmt.Sprintf(format, args...))
	case len(u.warnings) == maxWarnings:
		u.warnings = append(u.warnings, "further warnings were left out")
	}
}

// charge counts n bytes of content.
func (u *unpacker) charge(n int64) error {
	if n < 0 || n > u.limits.Bytes-u.bytes {
		return fmt.Errorf("the files have more than %d bytes: %w", u.limits.Bytes, containerizer.ErrResourceExhausted)
	}
	u.bytes += n
	return nil
}

func (u *unpacker) result() *unpack.Result {
	if u.aufs > 0 {
		u.warn("%d entries of aufs were left out", u.aufs)
	}
	return &unpack.Result{
		DiskBytes: u.disk,
		Entries:   u.entries,
		Implicit:  u.notes.unlisted(),
		Links:     u.notes.links,
		Opaque:    sortedKeys(u.notes.opaque),
		Whiteouts: u.notes.whiteoutDirs(),
		Warnings:  u.warnings,
	}
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
