package store

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/go-digest"

	"github.com/berth-dev/berth/containerizer"
)

// Use is the record of a container's, or one of its volumes', use of an image.
// It keeps the image's layers alive.
type Use struct {
	ID     containerizer.ContainerID `json:"id"`
	Source containerizer.ImageSource `json:"source"`
	// Reference is the canonical name, Manifest what it stood for.
	Reference string                `json:"reference"`
	Manifest  digest.Digest         `json:"manifest"`
	Stack     []string              `json:"stack"`
	Rootfs    *containerizer.Rootfs `json:"rootfs"`
	// BootID is the boot in which the writable layer was made.
	BootID string `json:"bootID"`
}

// maxDirName leaves ids room within NAME_MAX.
const maxDirName = 200

// ContainerDir is the directory of a container. A long id is hashed; the record
// in it has the id.
func (s *Store) ContainerDir(id containerizer.ContainerID) string {
	name := string(id)
	if len(name) > maxDirName {
		sum := sha256.Sum256([]byte(name))
		name = "sha256." + hex.EncodeToString(sum[:])
	}
	return s.path("containers", name)
}

// ContainerDirs lists the directories of all containers.
func (s *Store) ContainerDirs() ([]string, error) {
	names, err := s.names("containers")
	for i, n := range names {
		names[i] = s.path("containers", n)
	}
	return names, err
}

// RootUse is the number of the container's own root filesystem; volumes count
// from 0.
const RootUse = -1

func useName(n int) string {
	if n == RootUse {
		return "layers.json"
	}
	return "volume-" + strconv.Itoa(n) + ".json"
}

// ReadUse reads a record. ErrNotFound when there is none.
func (s *Store) ReadUse(id containerizer.ContainerID, n int) (*Use, error) {
	var u Use
	if err := readJSON(filepath.Join(s.ContainerDir(id), useName(n)), &u); err != nil {
		return nil, err
	}
	return &u, nil
}

// WriteUse writes a new record. The caller holds the gc lock shared since it
// looked the image up. The file is written in place: half a record is an error
// for its container and does not concern another.
func (s *Store) WriteUse(u *Use, n int) error {
	b, err := json.Marshal(u)
	if err != nil {
		return fmt.Errorf("encode the record of container %q: %w", u.ID, err)
	}
	dir := s.ContainerDir(u.ID)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make the directory of container %q: %w", u.ID, class(err))
	}
	f, err := os.OpenFile(filepath.Join(dir, useName(n)), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return class(err)
	}
	_, err = f.Write(b)
	return class(errors.Join(err, f.Close()))
}

// RewriteUse replaces a record. There is always a whole one.
func (s *Store) RewriteUse(u *Use, n int) error {
	return s.writeJSON(filepath.Join(s.ContainerDir(u.ID), useName(n)), u, nil)
}

// Uses reads the records of all containers. broken are directories and records
// that could not be used.
func (s *Store) Uses() (uses []*Use, broken map[string]error, err error) {
	names, err := s.names("containers")
	if err != nil {
		return nil, nil, err
	}
	broken = map[string]error{}
	for _, name := range names {
		files, err := filepath.Glob(s.path("containers", name, "*.json"))
		if err != nil {
			return nil, nil, err
		}
		for _, f := range files {
			var u Use
			switch err := readJSON(f, &u); {
			case errors.Is(err, containerizer.ErrNotFound):
			case err != nil:
				broken[f] = err
			default:
				uses = append(uses, &u)
			}
		}
	}
	return uses, broken, nil
}

// DropVolume takes away the n-th volume of a container.
func (s *Store) DropVolume(id containerizer.ContainerID, n int) error {
	dir := s.ContainerDir(id)
	return errors.Join(s.Trash(filepath.Join(dir, "volume-"+strconv.Itoa(n))), remove(filepath.Join(dir, useName(n))))
}
