package uri

import (
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/berth-dev/berth/containerizer"
)

// Sink is where a download goes.
type Sink interface {
	// Begin is told what is about to come: the bytes of the file that are kept (0 when
	// it begins anew), the size of the whole (-1 is unknown) and its version. It returns
	// the file to write to, which has the bytes that are kept.
	Begin(keep, size int64, version string) (*os.File, error)
	// Room is asked before the file grows to size bytes.
	Room(size int64) error
}

// Part is a file that is being downloaded, with the digests of what it has.
type Part struct {
	sink   Sink
	file   *os.File
	n      int64
	sha256 hash.Hash
	sha512 hash.Hash // nil unless it is wanted
}

// NewPart returns a part without a byte. wanted is a checksum that it will be
// compared with, or "".
func NewPart(sink Sink, wanted digest.Digest) *Part {
	p := &Part{sink: sink, sha256: sha256.New()}
	if wanted != "" && wanted.Algorithm() == digest.SHA512 {
		p.sha512 = sha512.New()
	}
	return p
}

// Resume takes over the content of a file that an earlier download left.
func (p *Part) Resume(f *os.File) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	p.file = f
	n, err := io.Copy(p.hashes(), f)
	p.n = n
	return err
}

func (p *Part) hashes() io.Writer {
	if p.sha512 == nil {
		return p.sha256
	}
	return io.MultiWriter(p.sha256, p.sha512)
}

// File is the file; nil before the first byte.
func (p *Part) File() *os.File { return p.file }

// Size is the number of bytes that it has.
func (p *Part) Size() int64 { return p.n }

// SHA256 is the digest of what it has.
func (p *Part) SHA256() digest.Digest { return digest.NewDigest(digest.SHA256, p.sha256) }

// Check compares what it has with a checksum. Errors: ErrDataCorrupt.
func (p *Part) Check(what string, want digest.Digest) error {
	if want == "" {
		return nil
	}
	got := p.SHA256()
	if want.Algorithm() == digest.SHA512 && p.sha512 != nil {
		got = digest.NewDigest(digest.SHA512, p.sha512)
	}
	if got != want {
		return fmt.Errorf("%s has the checksum %s, not %s as wanted (%d bytes): %w", what, got, want, p.n, containerizer.ErrDataCorrupt)
	}
	return nil
}

// begin prepares for bytes from keep on: 0, or all it has.
func (p *Part) begin(keep, size int64, version string) error {
	f, err := p.sink.Begin(keep, size, version)
	if err != nil {
		return err
	}
	p.file = f
	if keep == 0 {
		p.n = 0
		p.sha256.Reset()
		if p.sha512 != nil {
			p.sha512.Reset()
		}
		if err := f.Truncate(0); err != nil {
			return fmt.Errorf("empty the file for a download: %w", DiskError(err))
		}
	}
	_, err = f.Seek(keep, io.SeekStart)
	return err
}

func (p *Part) write(b []byte) error {
	if err := p.sink.Room(p.n + int64(len(b))); err != nil {
		return err
	}
	if _, err := p.file.Write(b); err != nil {
		return fmt.Errorf("write a download: %w", DiskError(err))
	}
	_, _ = p.hashes().Write(b) // never fails (hash.Hash)
	p.n += int64(len(b))
	return nil
}

// DiskError adds the class ErrResourceExhausted to a full disk.
func DiskError(err error) error {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, full) {
			return fmt.Errorf("%w: %w", err, containerizer.ErrResourceExhausted)
		}
	}
	return err
}
