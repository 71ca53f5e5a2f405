package apply

import (
	"archive/tar"
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// zip extracts a zip archive. Every entry is checked on its own: the local headers,
// the sizes in them and overlapping entries are as hostile as the names.
func (a *archive) zip(in *os.File) error {
	r, err := zip.NewReader(&seeker{f: in}, a.size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // names are checked below
		return zipError(err)
	}
	if int64(len(r.File)) > a.limits.Entries {
		return fmt.Errorf("the archive has %d entries, more than %d: %w", len(r.File), a.limits.Entries, containerizer.ErrResourceExhausted)
	}
	for _, f := range r.File {
		if err := a.zipEntry(f); err != nil {
			return err
		}
	}
	return nil
}

func zipError(err error) error {
	switch {
	case errors.Is(err, zip.ErrAlgorithm):
		return fmt.Errorf("read the zip archive: its compression is neither deflate nor none: %w", containerizer.ErrUnsupported)
	case errors.Is(err, containerizer.ErrResourceExhausted), errors.Is(err, containerizer.ErrDataCorrupt):
		return err
	}
	return fmt.Errorf("read the zip archive: %w: %w", err, containerizer.ErrDataCorrupt)
}

// encrypted is bit 0 of a zip entry's flags (APPNOTE.TXT, 4.4.4).
const encrypted = 1

func (a *archive) zipEntry(f *zip.File) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("entry %q: %w", printable(f.Name), invalid(format, args...))
	}
	if strings.ContainsRune(f.Name, '\\') {
		return refuse("the name holds a backslash, which zip does not allow (APPNOTE.TXT, 4.4.17)")
	}
	if f.Flags&encrypted != 0 {
		return fmt.Errorf("entry %q is encrypted: %w", printable(f.Name), containerizer.ErrUnsupported)
	}
	h := &tar.Header{Name: f.Name, ModTime: f.Modified, Mode: int64(f.Mode().Perm())}
	switch mode := f.Mode(); {
	case mode.IsDir():
		h.Typeflag = tar.TypeDir
		return a.add(h, nil)
	case mode.IsRegular():
		h.Typeflag = tar.TypeReg
	case mode&fs.ModeSymlink != 0:
		return a.zipLink(f, h)
	default:
		a.warn("%q is a device or FIFO and was left out", printable(f.Name))
		return nil
	}
	r, err := f.Open()
	if err != nil {
		return fmt.Errorf("entry %q: %w", printable(f.Name), zipError(err))
	}
	defer func() { _ = r.Close() }() // read only
	return a.add(h, &zipContent{r, a})
}

func (a *archive) zipLink(f *zip.File, h *tar.Header) error {
	r, err := f.Open()
	if err != nil {
		return fmt.Errorf("entry %q: %w", printable(f.Name), zipError(err))
	}
	defer func() { _ = r.Close() }() // read only
	target, err := io.ReadAll(io.LimitReader(r, unix.PathMax))
	if err != nil {
		return fmt.Errorf("entry %q: %w", printable(f.Name), zipError(err))
	}
	if len(target) == unix.PathMax {
		return fmt.Errorf("entry %q: %w", printable(f.Name), invalid("the symbolic link's target is too long"))
	}
	h.Typeflag, h.Linkname = tar.TypeSymlink, string(target)
	return a.add(h, nil)
}

// zipContent charges what really comes, whatever the headers say. Entries that share
// their compressed bytes inflate more than the whole file could.
type zipContent struct {
	r io.Reader
	a *archive
}

func (z *zipContent) Read(p []byte) (int, error) {
	n, err := z.r.Read(p)
	if cerr := z.a.charge(int64(n)); cerr != nil {
		return 0, cerr
	}
	if rerr := z.a.checkRatio(z.a.bytes, z.a.size); rerr != nil {
		return 0, rerr
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = zipError(err)
	}
	return n, err
}

// seeker reads at offsets with the two system calls that the child may make.
type seeker struct {
	mu sync.Mutex // the position is the file's
	f  *os.File
}

// ReadAt implements [io.ReaderAt].
func (s *seeker) ReadAt(p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.f.Seek(off, io.SeekStart); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(s.f, p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}
