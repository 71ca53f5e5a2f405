package store

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/berth-dev/berth/containerizer"
)

// Store is a store below one directory.
type Store struct {
	root string
	once sync.Once
	err  error // of making the directories

	bootOnce sync.Once
	boot     string
}

// New returns the store at root, an absolute path. It does no I/O.
func New(root string) *Store { return &Store{root: root} }

// folders of the store.
func folders() []string {
	return []string{
		"oci/blobs/sha256", "oci/blobs/sha512", "layers", "images", "refs", "origins", "containers", "leases", "ingest", "stage", "pending",
		"trash", "empty", "locks",
	}
}

// Init makes the directories, once per process.
func (s *Store) Init() error {
	s.once.Do(func() { s.err = s.init() })
	return s.err
}

func (s *Store) init() error {
	for _, f := range folders() {
		if err := os.MkdirAll(s.path(f), 0o700); err != nil {
			return fmt.Errorf("make the image store: %w", class(err))
		}
	}
	// The root of a container sees the mode of the lowest empty layer.
	if err := os.Chmod(s.path("empty"), 0o755); err != nil { //nolint:gosec // below a directory of mode 0700
		return fmt.Errorf("make the image store: %w", err)
	}
	marker := s.path("oci", "oci-layout")
	if _, err := os.Lstat(marker); err == nil {
		return nil
	}
	return s.write(marker, []byte(`{"imageLayoutVersion":"1.0.0"}`+"\n"), nil)
}

// Root is the store's directory.
func (s *Store) Root() string { return s.root }

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.root}, parts...)...)
}

// Empty is a directory without content, to be used as a layer.
func (s *Store) Empty() string { return s.path("empty") }

// BootID names the present boot of the node; "" where the kernel does not tell,
// and then nothing that is not durable is trusted by another process.
func (s *Store) BootID() string {
	s.bootOnce.Do(func() {
		if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
			s.boot = strings.TrimSpace(string(b))
		}
	})
	return s.boot
}

// class adds the error class to errors of the file system.
func class(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fmt.Errorf("%w: %w", err, containerizer.ErrResourceExhausted)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", err, containerizer.ErrPermission)
	}
	return err
}

func random() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	return hex.EncodeToString(b[:])
}

// write puts a file in place by renaming; before, if given, comes before that. The
// file is locked while it is written, so that a sweep knows what a dead process left.
func (s *Store) write(path string, data []byte, before func(*os.File) error) (err error) {
	tmp, l, err := s.scratch()
	if err != nil {
		return err
	}
	f := l.f
	_, err = f.Write(data)
	if err == nil && before != nil {
		err = before(f)
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	err = errors.Join(err, f.Close())
	if err != nil {
		return class(errors.Join(err, os.Remove(tmp)))
	}
	return nil
}

// scratch makes a file under construction and locks it. A sweep that looks at the file
// in the moment before it is locked takes it away; then another one is made.
func (s *Store) scratch() (path string, l *Lock, err error) {
	for {
		path = s.path("stage", "file-"+random())
		if l, err = try(path, syscall.LOCK_EX); !errors.Is(err, errBusy) {
			return path, l, err
		}
	}
}

// writeJSON is write for a record.
func (s *Store) writeJSON(path string, v any, before func(*os.File) error) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("encode %q: %w", path, err)
	}
	return s.write(path, b.Bytes(), before)
}

// readJSON reads a record. Errors: ErrNotFound, ErrDataCorrupt.
func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", err, containerizer.ErrNotFound)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("record %q: %w: %w", path, err, containerizer.ErrDataCorrupt)
	}
	return nil
}

// names lists a folder without sorting; a missing one is empty.
func (s *Store) names(folder string) ([]string, error) {
	d, err := os.Open(s.path(folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	return names, errors.Join(err, d.Close())
}

// BlobPath is where the content with digest d is kept.
func (s *Store) BlobPath(d digest.Digest) string {
	return s.path("oci", "blobs", string(d.Algorithm()), d.Encoded())
}

// Trash takes path out of sight. On a full disk, where the rename may need
// space, it is deleted at once.
func (s *Store) Trash(path string) error {
	err := os.Rename(path, s.path("trash", random()))
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist) && !exists(path):
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, fs.ErrNotExist):
		return class(os.RemoveAll(path))
	}
	return class(err)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Exists says whether anything was ever put into the store.
func (s *Store) Exists() bool { return exists(s.path("locks")) }
