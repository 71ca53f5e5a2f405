package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/berth-dev/berth/containerizer"
)

// Origin is the record of where an image came from, and of what made it trusted.
// Each name that an image was pulled by has one of its own.
type Origin struct {
	// Name is the canonical name that it was pulled by, or of the archive.
	Name     string        `json:"name"`
	Manifest digest.Digest `json:"manifest"`
	// Digests are what the name stood for: of an index, if any, and the manifest.
	Digests []digest.Digest `json:"digests"`
	// Policy is the signature policy that accepted it, "" none. Files are what it
	// and its keys consisted of: with any other content it is judged again.
	Policy string                   `json:"policy,omitempty"`
	Files  map[string]digest.Digest `json:"files,omitempty"`
}

func (s *Store) originDir(manifest digest.Digest) string {
	return s.path("origins", filepath.Base(manifest.Encoded()))
}

func (s *Store) originPath(manifest digest.Digest, name string) string {
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(s.originDir(manifest), hex.EncodeToString(sum[:])+".json")
}

// Origin reads the record of an image that was pulled by a name. Errors:
// ErrNotFound, ErrDataCorrupt.
func (s *Store) Origin(manifest digest.Digest, name string) (*Origin, error) {
	return s.origin(s.originPath(manifest, name), manifest)
}

func (s *Store) origin(path string, manifest digest.Digest) (*Origin, error) {
	var o Origin
	if err := readJSON(path, &o); err != nil {
		return nil, err
	}
	if o.Manifest != manifest || s.originPath(manifest, o.Name) != path {
		return nil, fmt.Errorf("record %q is that of image %s by the name %q: %w", path, o.Manifest, o.Name, containerizer.ErrDataCorrupt)
	}
	return &o, nil
}

// Origins reads all records of an image. Those that cannot be used are left out:
// less is trusted then.
func (s *Store) Origins(manifest digest.Digest) ([]*Origin, error) {
	entries, err := os.ReadDir(s.originDir(manifest))
	if notExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []*Origin
	for _, e := range entries {
		if o, err := s.origin(filepath.Join(s.originDir(manifest), e.Name()), manifest); err == nil {
			out = append(out, o)
		}
	}
	return out, nil
}

// PutOrigin writes a record.
func (s *Store) PutOrigin(o *Origin) error {
	var err error
	for range 10 { // a sweep may take the directory of an image that it does not see yet
		if err = os.MkdirAll(s.originDir(o.Manifest), 0o700); err == nil {
			err = s.writeJSON(s.originPath(o.Manifest, o.Name), o, nil)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("write where image %s came from: %w", o.Manifest, class(err))
	}
	return nil
}

// sweepOrigins removes the records of images that are gone. Precondition: the gc
// lock is held alone. What a pull writes in that moment may go too; the image's
// origin is then unknown, and less is trusted.
func (s *Store) sweepOrigins() error {
	names, err := s.names("origins")
	if err != nil {
		return err
	}
	for _, n := range names {
		if !exists(s.path("images", n+".json")) {
			err = errors.Join(err, s.Trash(s.path("origins", n)))
		}
	}
	return err
}
