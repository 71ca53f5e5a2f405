package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	partialPrefix = "part-"
	// partialAge is how long a download that broke off waits for somebody who carries
	// it on.
	partialAge = 24 * time.Hour
)

// Partial is a blob's file while it is downloaded. What is in it is not verified,
// whoever wrote it: it is to be hashed again from the start.
type Partial struct {
	s    *Store
	lock *Lock
	d    digest.Digest
	path string
	have int64
	gone bool // to its name
}

// Partial opens the file of blob d, which has size bytes, with what an earlier
// download left of it; false when somebody else writes it.
func (s *Store) Partial(d digest.Digest, size int64) (*Partial, bool, error) {
	path := s.path("ingest", partialPrefix+string(d.Algorithm())+"-"+d.Encoded())
	l, err := try(path, syscall.LOCK_EX)
	if errors.Is(err, errBusy) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("make a file for downloading: %w", err)
	}
	p := &Partial{s: s, lock: l, d: d, path: path}
	if p.have, err = l.f.Seek(0, io.SeekEnd); err != nil {
		l.Release()
		return nil, false, class(err)
	}
	if p.have > size {
		if err := p.Reset(); err != nil {
			l.Release()
			return nil, false, err
		}
	}
	return p, true, nil
}

// Have is how many bytes there were when it was opened.
func (p *Partial) Have() int64 { return p.have }

// Old reads those.
func (p *Partial) Old() io.Reader { return io.NewSectionReader(p.lock.f, 0, p.have) }

// Write appends.
func (p *Partial) Write(b []byte) (int, error) { return p.lock.f.Write(b) }

// Reset throws away what there is.
func (p *Partial) Reset() error {
	p.have = 0
	_, err := p.lock.f.Seek(0, io.SeekStart)
	return class(errors.Join(err, p.lock.f.Truncate(0)))
}

// Commit gives the verified blob its name.
func (p *Partial) Commit() error {
	err := os.Rename(p.path, p.s.BlobPath(p.d))
	p.gone = err == nil
	return class(err)
}

// Drop removes the file, unless it has its name.
func (p *Partial) Drop() error {
	if p.gone { // what is at its path now is somebody else's
		p.lock.Release()
		return nil
	}
	err := os.Remove(p.path)
	p.lock.Release()
	if notExist(err) {
		return nil
	}
	return err
}

// Release leaves the file to be carried on by somebody else, if anything is in it.
func (p *Partial) Release() error {
	if info, err := p.lock.f.Stat(); err != nil || info.Size() == 0 {
		return p.Drop()
	}
	p.lock.Release()
	return nil
}

// stale says whether a file in ingest is of no use when nobody holds it: all but
// downloads that somebody may carry on.
func (s *Store) stale(name string) bool {
	if !strings.HasPrefix(name, partialPrefix) {
		return true
	}
	info, err := os.Lstat(s.path("ingest", name))
	return err == nil && time.Since(info.ModTime()) > partialAge
}
