// Package volume keeps the named volumes of a node: directories below one root,
// each with a small file of facts beside it. The directory is the volume; losing
// its file loses labels and nothing else.
package volume

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// facts is the folder of the facts; no volume can be called so.
const facts = ".facts"

// Volume is one volume.
type Volume struct {
	Name       string            `json:"Name"`
	Driver     string            `json:"Driver"`
	Mountpoint string            `json:"Mountpoint"`
	CreatedAt  time.Time         `json:"CreatedAt"`
	Labels     map[string]string `json:"Labels"`
	Scope      string            `json:"Scope"`
}

// ValidName says whether name can be a volume's: letters, digits, '_', '.'
// and '-', beginning with a letter or digit.
func ValidName(name string) bool {
	if name == "" || len(name) > 255 {
		return false
	}
	for i, r := range name {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune("_.-", r)) {
			return false
		}
	}
	return true
}

// Store is the volumes below one directory. It may be used by several processes.
type Store struct{ dir string }

// New returns the store in dir, which is made when the first volume is.
func New(dir string) *Store { return &Store{dir: dir} }

// Ensure makes the volume name unless it exists, and says whether it did.
func (s *Store) Ensure(name string, labels map[string]string) (made bool, err error) {
	if err := checkName(name); err != nil {
		return false, err
	}
	if err := os.MkdirAll(s.dir, 0o711); err != nil {
		return false, err
	}
	err = os.Mkdir(filepath.Join(s.dir, name), 0o755)
	switch {
	case errors.Is(err, fs.ErrExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("make volume %q: %w", name, err)
	}
	if len(labels) == 0 {
		return true, nil
	}
	if err := s.writeFacts(name, labels); err != nil {
		return true, fmt.Errorf("labels of volume %q: %w", name, err)
	}
	return true, nil
}

// writeFacts writes the labels aside first, so that nobody reads half of them.
func (s *Store) writeFacts(name string, labels map[string]string) error {
	data, err := json.Marshal(labels)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.dir, facts)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), s.factsPath(name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func checkName(name string) error {
	if !ValidName(name) {
		return fmt.Errorf("%q cannot be a volume's name (letters, digits, '_', '.', '-'): %w", name, containerizer.ErrInvalid)
	}
	return nil
}

func (s *Store) factsPath(name string) string { return filepath.Join(s.dir, facts, name+".json") }

// List returns all volumes by name.
func (s *Store) List() ([]Volume, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Volume
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		v, err := s.Get(e.Name())
		if errors.Is(err, containerizer.ErrNotFound) {
			continue // removed in the meantime
		}
		if err != nil {
			return nil, err
		}
		out = append(out, *v)
	}
	slices.SortFunc(out, func(a, b Volume) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Get returns one volume.
func (s *Store) Get(name string) (*Volume, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	path := filepath.Join(s.dir, name)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil, fmt.Errorf("volume %q: %w", name, containerizer.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	v := &Volume{Name: name, Driver: "local", Mountpoint: path, CreatedAt: info.ModTime(), Scope: "local"}
	data, err := os.ReadFile(s.factsPath(name))
	if err == nil {
		err = json.Unmarshal(data, &v.Labels)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("labels of volume %q: %w", name, err)
	}
	return v, nil
}

// Remove removes a volume and what it holds; a no-op for one that does not
// exist. The volume is renamed first: one that is half removed is never seen.
func (s *Store) Remove(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	doomed, err := os.MkdirTemp(s.dir, ".removing-*")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = os.Rename(filepath.Join(s.dir, name), filepath.Join(doomed, "volume"))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if gone := os.Remove(s.factsPath(name)); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	if err = errors.Join(err, os.RemoveAll(doomed)); err != nil {
		return fmt.Errorf("remove volume %q: %w", name, err)
	}
	return nil
}

// Size is what a volume takes on disk.
func (s *Store) Size(name string) (int64, error) {
	return DirSize(filepath.Join(s.dir, name))
}
