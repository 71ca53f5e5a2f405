package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// ImageLayer is a layer of an image as its manifest has it.
type ImageLayer struct {
	DiffID digest.Digest `json:"diffID"`
	Blob   v1.Descriptor `json:"blob"`
}

// RootAttributes are those of a container's root directory.
type RootAttributes struct {
	Mode uint32 `json:"mode"`
	UID  int    `json:"uid"`
	GID  int    `json:"gid"`
	// Xattrs are the extended attributes, but for the overlay's and the host policy's.
	Xattrs map[string][]byte `json:"xattrs,omitempty"`
}

// Image is the record of an image: what a container start needs, in one file.
type Image struct {
	Durability
	Manifest v1.Descriptor `json:"manifest"`
	// Index is the digest of the index it was chosen from, if any.
	Index    digest.Digest `json:"index,omitempty"`
	ConfigID v1.Descriptor `json:"configDescriptor"`
	Platform v1.Platform   `json:"platform"`
	Created  time.Time     `json:"created,omitzero"`
	PulledAt time.Time     `json:"pulledAt"`
	Layers   []ImageLayer  `json:"layers"` // bottom first
	// Stack are the names of layer directories, topmost first.
	Stack  []string       `json:"stack"`
	Root   RootAttributes `json:"root"`
	Config v1.ImageConfig `json:"config"`
	// Names it was pulled by; its names are the records of names, which these help to
	// repair.
	Names []string `json:"names,omitempty"`
	// Backend is what the store's file system can do: "overlay" or "copy".
	Backend string `json:"backend"`
}

// Image reads the record of the image with that manifest. Errors as those of Layer.
func (s *Store) Image(manifest digest.Digest) (*Image, error) {
	var i Image
	if err := readJSON(s.imagePath(manifest), &i); err != nil {
		return nil, err
	}
	if i.Manifest.Digest != manifest {
		return nil, fmt.Errorf("the record of image %s is that of %s: %w", manifest, i.Manifest.Digest, containerizer.ErrDataCorrupt)
	}
	if !s.trusted(i.Durability) {
		return nil, fmt.Errorf("image %s was not yet on disk when the node went down; pull it again: %w", manifest, containerizer.ErrDataCorrupt)
	}
	return &i, nil
}

func (s *Store) imagePath(d digest.Digest) string {
	return s.path("images", filepath.Base(d.Encoded())+".json")
}

// RecordImage is PutImage where others may write the same record. The caller holds the
// gc lock, at least shared.
func (s *Store) RecordImage(ctx context.Context, i *Image) error {
	l, err := s.lockNames(ctx)
	if err != nil {
		return err
	}
	defer l.Release()
	return s.PutImage(i)
}

// PutImage writes an image's record.
func (s *Store) PutImage(i *Image) error {
	i.Durability = Durability{BootID: s.BootID()}
	if err := s.markPending("image-" + i.Manifest.Digest.Encoded()); err != nil {
		return err
	}
	if err := s.writeJSON(s.imagePath(i.Manifest.Digest), i, nil); err != nil {
		return fmt.Errorf("write the record of image %s: %w", i.Manifest.Digest, err)
	}
	return s.markPending("image-" + i.Manifest.Digest.Encoded()) // a flush may have found a marker of nothing
}

// Touch notes that an image is used now, in the time of its record: that costs one
// system call, and needs no space.
func (s *Store) Touch(manifest digest.Digest) {
	_ = unix.UtimesNanoAt(unix.AT_FDCWD, s.imagePath(manifest), nil, 0) // then it counts as older
}

// LastUse is when an image was pulled or used last.
func (s *Store) LastUse(manifest digest.Digest) time.Time {
	info, err := os.Lstat(s.imagePath(manifest))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// DropImage removes an image's record.
func (s *Store) DropImage(manifest digest.Digest) error {
	return remove(s.imagePath(manifest))
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !notExist(err) {
		return class(err)
	}
	return nil
}

// Images reads all image records. broken are the files that could not be used.
func (s *Store) Images() (images []*Image, broken map[string]error, err error) {
	names, err := s.names("images")
	if err != nil {
		return nil, nil, err
	}
	broken = map[string]error{}
	for _, name := range names {
		var i Image
		path := s.path("images", name)
		err := readJSON(path, &i)
		switch {
		case errors.Is(err, containerizer.ErrNotFound): // removed meanwhile
			continue
		case err == nil && i.Manifest.Digest.Encoded()+".json" != name:
			err = fmt.Errorf("record %q is that of image %s: %w", path, i.Manifest.Digest, containerizer.ErrDataCorrupt)
		case err == nil && !s.trusted(i.Durability):
			err = fmt.Errorf("image %s was not yet on disk when the node went down: %w", i.Manifest.Digest, containerizer.ErrDataCorrupt)
		}
		if err != nil {
			broken[path] = err
			continue
		}
		images = append(images, &i)
	}
	return images, broken, nil
}

// RefImage is what a name stands for on one platform.
type RefImage struct {
	// Platform that was asked for, "os/arch/variant".
	Platform string        `json:"platform"`
	Manifest digest.Digest `json:"manifest"`
}

// Ref is the record of a name.
type Ref struct {
	Name string `json:"name"`
	// Target is the manifest or index that the name stood for when it was pulled.
	Target v1.Descriptor `json:"target"`
	Images []RefImage    `json:"images"`
	Pinned bool          `json:"pinned,omitempty"`
}

func (s *Store) refPath(name string) string {
	sum := sha256.Sum256([]byte(name))
	return s.path("refs", hex.EncodeToString(sum[:])+".json")
}

// Ref reads the record of a name. Errors: ErrNotFound, ErrDataCorrupt.
func (s *Store) Ref(name string) (*Ref, error) {
	var r Ref
	if err := readJSON(s.refPath(name), &r); err != nil {
		return nil, err
	}
	if r.Name != name {
		return nil, fmt.Errorf("the record of name %q is that of %q: %w", name, r.Name, containerizer.ErrDataCorrupt)
	}
	return &r, nil
}

// PutRef writes the record of a name.
func (s *Store) PutRef(r *Ref) error {
	if err := s.writeJSON(s.refPath(r.Name), r, nil); err != nil {
		return fmt.Errorf("write the record of name %q: %w", r.Name, err)
	}
	return nil
}

// lockNames takes the lock of those who change records of names and images.
func (s *Store) lockNames(ctx context.Context) (*Lock, error) {
	return wait(ctx, s.path("locks", "names"), syscall.LOCK_EX)
}

// UpdateRef changes the record of a name: change gets what there is, nil where that is
// nothing or not readable, and returns what is to be there. Others that change names at
// this moment wait. The caller holds the gc lock, at least shared.
func (s *Store) UpdateRef(ctx context.Context, name string, change func(old *Ref) *Ref) error {
	l, err := s.lockNames(ctx)
	if err != nil {
		return err
	}
	defer l.Release()
	old, err := s.Ref(name)
	if err != nil {
		old = nil
	}
	return s.PutRef(change(old))
}

// DropRef removes a name.
func (s *Store) DropRef(name string) error { return remove(s.refPath(name)) }

// Refs reads all names. broken are the files that could not be used.
func (s *Store) Refs() (refs []*Ref, broken map[string]error, err error) {
	names, err := s.names("refs")
	if err != nil {
		return nil, nil, err
	}
	broken = map[string]error{}
	for _, name := range names {
		var r Ref
		path := s.path("refs", name)
		err := readJSON(path, &r)
		switch {
		case errors.Is(err, containerizer.ErrNotFound):
			continue
		case err == nil && s.refPath(r.Name) != path:
			err = fmt.Errorf("record %q is that of name %q: %w", path, r.Name, containerizer.ErrDataCorrupt)
		}
		if err != nil {
			broken[path] = err
			continue
		}
		refs = append(refs, &r)
	}
	return refs, broken, nil
}

// DropFile removes a broken record.
func (s *Store) DropFile(path string) error {
	if !strings.HasPrefix(path, s.root+"/") {
		return fmt.Errorf("%q is not in the store: %w", path, containerizer.ErrInvalid)
	}
	return remove(path)
}

// RefFile is the file of a name's record.
func (s *Store) RefFile(name string) string { return s.refPath(name) }

// IsRefFile says whether path is that of a name's record.
func (s *Store) IsRefFile(path string) bool { return filepath.Dir(path) == s.path("refs") }
