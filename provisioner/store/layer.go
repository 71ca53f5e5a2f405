package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/unpack"
)

// Durability says whether a record may be trusted after the node went down.
type Durability struct {
	// BootID of the boot in which it was made.
	BootID string `json:"bootID"`
	// Durable is set once everything it stands for was written to disk.
	Durable bool `json:"durable"`
}

// trusted says whether the record's content is whole.
func (s *Store) trusted(d Durability) bool {
	return d.Durable || d.BootID != "" && d.BootID == s.BootID()
}

// Layer is the record of one layer directory.
type Layer struct {
	Durability
	// Name is the diffID's hexadecimal digits, or "fix-" and those of a chainID.
	Name string `json:"name"`
	// Blob is the compressed layer it was made of, computed by us.
	Blob    digest.Digest `json:"blob,omitempty"`
	Created time.Time     `json:"created"`
	// Content is what unpacking found.
	Content unpack.Result `json:"content"`
}

// LayerName is the name of the layer with a diffID.
func LayerName(diffID digest.Digest) string { return diffID.Encoded() }

// FixName is the name of the directory that a stack needs above its topmost layer.
func FixName(chainID digest.Digest) string { return "fix-" + chainID.Encoded() }

// LayerPath is the directory of the layer's files.
func (s *Store) LayerPath(name string) string { return s.path("layers", name, "fs") }

// Layer reads a layer's record. ErrNotFound when there is none, ErrDataCorrupt
// when it is not to be trusted.
func (s *Store) Layer(name string) (*Layer, error) {
	var l Layer
	if err := readJSON(s.path("layers", name, "meta.json"), &l); err != nil {
		return nil, err
	}
	if l.Name != name {
		return nil, fmt.Errorf("the record of layer %q is that of %q: %w", name, l.Name, containerizer.ErrDataCorrupt)
	}
	if !s.trusted(l.Durability) {
		return nil, fmt.Errorf("layer %q was not yet on disk when the node went down: %w", name, containerizer.ErrDataCorrupt)
	}
	return &l, nil
}

// Layers lists the names of all layer directories but those set aside.
func (s *Store) Layers() ([]string, error) {
	names, err := s.names("layers")
	return slices.DeleteFunc(names, func(n string) bool { return strings.HasPrefix(n, asidePrefix) }), err
}

// CommitLayer gives a stage directory, with the layer's files in "fs", its name.
// When the layer is there already, the stage is left to its lease. The caller
// holds the layer's lock, and a lease on it.
func (s *Store) CommitLayer(stage string, l *Layer) error {
	l.Durability = Durability{BootID: s.BootID()}
	l.Created = time.Now().UTC().Truncate(time.Second)
	if err := s.markPending("layer-" + l.Name); err != nil {
		return err
	}
	if err := s.writeJSON(filepath.Join(stage, "meta.json"), l, nil); err != nil {
		return fmt.Errorf("write the record of layer %s: %w", l.Name, err)
	}
	err := os.Rename(stage, s.path("layers", l.Name))
	if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST) {
		return nil
	}
	if err != nil {
		return class(err)
	}
	return s.markPending("layer-" + l.Name) // a flush may have found a marker of nothing
}

// DropLayer removes a broken layer, or sets it aside if a container uses it. The caller
// holds its lock. Nothing is done where there is no such layer.
func (s *Store) DropLayer(ctx context.Context, name string) error {
	if !exists(s.path("layers", name)) {
		return nil
	}
	l, err := s.Collect(ctx)
	if err != nil {
		return err
	}
	defer l.Release()
	uses, _, err := s.Uses() // a broken record uses nothing
	if err != nil {
		return err
	}
	if slices.ContainsFunc(uses, func(u *Use) bool { return slices.Contains(u.Stack, name) }) {
		return s.SetAside(name)
	}
	return s.RemoveLayer(name)
}

// RemoveLayer removes a layer that no container uses. Precondition: the gc lock is held
// alone.
func (s *Store) RemoveLayer(name string) error {
	return s.Trash(s.path("layers", name))
}

// asidePrefix begins the names of layers that were set aside.
const asidePrefix = "aside-"

// SetAside removes a broken layer that a container uses: its directory stays under
// another name until no container does any more, so what runs keeps what it has.
// Precondition: the gc lock is held alone.
func (s *Store) SetAside(name string) error {
	err := os.Rename(s.path("layers", name), s.path("layers", asidePrefix+random()+"-"+name))
	if err != nil && !notExist(err) {
		return class(err)
	}
	return nil
}

// aside returns the name that a layer set aside had.
func aside(name string) (was string, ok bool) {
	rest, ok := strings.CutPrefix(name, asidePrefix)
	if !ok {
		return "", false
	}
	_, was, ok = strings.Cut(rest, "-")
	return was, ok
}

// CommitBlob gives a verified file its name by its digest.
func (s *Store) CommitBlob(file string, d digest.Digest) error {
	return class(os.Rename(file, s.BlobPath(d)))
}

// WriteBlob keeps a small verified document.
func (s *Store) WriteBlob(d digest.Digest, raw []byte) error {
	// By content: after a power cut a file may have the right size and nothing in it.
	if info, err := os.Lstat(s.BlobPath(d)); err == nil && info.Size() == int64(len(raw)) {
		if have, err := os.ReadFile(s.BlobPath(d)); err == nil && bytes.Equal(have, raw) {
			return nil
		}
	}
	if err := s.write(s.BlobPath(d), raw, nil); err != nil {
		return fmt.Errorf("keep blob %s: %w", d, err)
	}
	return nil
}

// HasBlob says whether the blob is kept, as far as its size tells.
func (s *Store) HasBlob(d digest.Digest, size int64) bool {
	info, err := os.Lstat(s.BlobPath(d))
	return err == nil && info.Mode().IsRegular() && (size <= 0 || info.Size() == size)
}

// Blobs lists the digests of all kept blobs.
func (s *Store) Blobs() ([]digest.Digest, error) {
	var out []digest.Digest
	for _, algorithm := range []string{"sha256", "sha512"} {
		names, err := s.names(filepath.Join("oci", "blobs", algorithm))
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			out = append(out, digest.Digest(algorithm+":"+n))
		}
	}
	return out, nil
}

// IsFix says whether a layer's name is that of a directory made for a stack.
func IsFix(name string) bool { return strings.HasPrefix(name, "fix-") }

// HasLayer says whether a layer directory is there.
func (s *Store) HasLayer(name string) bool { return exists(s.LayerPath(name)) }

// ReadBlob reads a blob of at most limit bytes, not verified.
func (s *Store) ReadBlob(d digest.Digest, limit int64) ([]byte, error) {
	info, err := os.Lstat(s.BlobPath(d))
	if notExist(err) {
		return nil, fmt.Errorf("blob %s is not in the store: %w", d, containerizer.ErrDataCorrupt)
	}
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("blob %s has %d bytes, at most %d are possible: %w", d, info.Size(), limit, containerizer.ErrInvalid)
	}
	return os.ReadFile(s.BlobPath(d))
}
