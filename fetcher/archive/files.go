package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/berth-dev/berth/containerizer"
)

const (
	maxMembers = 100_000
	maxLinks   = 10
	// maxExpanded bounds what a compressed archive may expand to.
	maxExpanded = 256 << 30
	maxWindow   = 128 << 20
)

// files is a flat set of named files.
type files interface {
	// open returns a file and its size.
	open(name string) (io.ReadCloser, int64, error)
	io.Closer
}

// dirFiles is a directory. Links out of it are refused by os.Root.
type dirFiles struct{ root *os.Root }

func openDir(dir string) (*dirFiles, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, pathError(err)
	}
	return &dirFiles{root}, nil
}

// pathError classes an error about the user's path.
func pathError(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", err, containerizer.ErrNotFound)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", err, containerizer.ErrPermission)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		return fmt.Errorf("%w: %w", err, containerizer.ErrInvalid)
	}
	return err
}

func (d *dirFiles) open(name string) (io.ReadCloser, int64, error) {
	// Not blocking: the file may be a FIFO.
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, pathError(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%q is not a regular file: %w", name, containerizer.ErrInvalid)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// Close closes the directory.
func (d *dirFiles) Close() error { return d.root.Close() }

// span is a member of a tar archive, or the name of another one.
type span struct {
	offset, size int64
	link         string
}

// tarFiles is an archive.
type tarFiles struct {
	f       *os.File
	members map[string]span
}

// openTar indexes the archive at name, expanding it first if it is compressed.
func openTar(ctx context.Context, name, tempDir string) (_ *tarFiles, err error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // the user's own path
	if err != nil {
		return nil, pathError(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("stat: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%q is not a regular file: %w", name, containerizer.ErrInvalid)
	}
	expanded, err := expand(ctx, f, tempDir)
	if err != nil {
		return nil, fmt.Errorf("decompress %q: %w", name, err)
	}
	if expanded != f {
		_ = f.Close() // was only read
		f = expanded
	}
	t := &tarFiles{f: f, members: map[string]span{}}
	if err := t.index(ctx); err != nil {
		return nil, fmt.Errorf("read the archive %q: %w", name, err)
	}
	return t, nil
}

// expand returns f itself, at its start, unless it is compressed.
func expand(ctx context.Context, f *os.File, tempDir string) (_ *os.File, err error) {
	br := bufio.NewReaderSize(f, 128<<10)
	head, _ := br.Peek(6) // a shorter file is not compressed
	var r io.Reader
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		r, err = gzip.NewReader(br)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		r, err = zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	case bytes.HasPrefix(head, []byte("BZh")):
		r = bzip2.NewReader(br)
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return nil, fmt.Errorf("xz is not supported; gzip, zstd and bzip2 are: %w", containerizer.ErrUnsupported)
	default:
		_, err = f.Seek(0, io.SeekStart)
		return f, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, containerizer.ErrDataCorrupt)
	}
	if tempDir == "" {
		tempDir = os.TempDir()
	}
	out, err := os.CreateTemp(tempDir, "berth-archive-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(out.Name()); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	n, err := io.Copy(out, io.LimitReader(&ctxReader{ctx, r}, maxExpanded+1))
	switch {
	case err == nil && n > maxExpanded:
		err = fmt.Errorf("it expands to more than %d bytes: %w", int64(maxExpanded), containerizer.ErrResourceExhausted)
	case err == nil:
		_, err = out.Seek(0, io.SeekStart)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		err = fmt.Errorf("%w: %w", err, containerizer.ErrResourceExhausted)
	case ctx.Err() == nil:
		err = fmt.Errorf("%w: %w", err, containerizer.ErrDataCorrupt)
	}
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return out, nil
}

// ctxReader ends with the context.
type ctxReader struct {
	ctx context.Context //nolint:containedctx // lives for one copy
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// index notes where each member's content is. The reader seeks over contents.
func (t *tarFiles) index(ctx context.Context) error {
	r := tar.NewReader(t.f)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", err, containerizer.ErrDataCorrupt)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(t.members) >= maxMembers {
			return fmt.Errorf("it has more than %d members: %w", maxMembers, containerizer.ErrInvalid)
		}
		name := clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			at, err := t.f.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			t.members[name] = span{offset: at, size: h.Size}
		case tar.TypeSymlink:
			t.members[name] = span{link: clean(path.Join(path.Dir(name), h.Linkname))}
		case tar.TypeLink:
			t.members[name] = span{link: clean(h.Linkname)}
		}
	}
}

// clean makes names comparable; they are keys of a map and nothing else.
func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

func (t *tarFiles) open(name string) (io.ReadCloser, int64, error) {
	name = clean(name)
	for range maxLinks {
		s, ok := t.members[name]
		if !ok {
			return nil, 0, fmt.Errorf("the archive has no %q: %w", name, containerizer.ErrNotFound)
		}
		if s.link == "" {
			return io.NopCloser(io.NewSectionReader(t.f, s.offset, s.size)), s.size, nil
		}
		name = s.link
	}
	return nil, 0, fmt.Errorf("%q in the archive is a loop of links: %w", name, containerizer.ErrInvalid)
}

func (t *tarFiles) has(name string) bool {
	_, ok := t.members[name]
	return ok
}

// Close closes the archive.
func (t *tarFiles) Close() error { return t.f.Close() }

// readAll reads a document.
func readAll(f files, name string) ([]byte, error) {
	r, size, err := f.open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	if size > maxDocument {
		return nil, fmt.Errorf("%q has %d bytes, at most %d are possible: %w", name, size, maxDocument, containerizer.ErrInvalid)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", name, err)
	}
	return b, nil
}
