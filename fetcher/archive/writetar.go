package archive

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/reference"
)

// opener opens the verified content of a blob.
type opener = func() (io.ReadCloser, error)

func copyBlob(w io.Writer, open opener) error {
	r, err := open()
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, r.Close())
}

// spaceError adds the class to errors of a full disk.
func spaceError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", err, containerizer.ErrResourceExhausted)
	}
	return err
}

// tarWriter writes an archive beside the place where it is to be. Both forms are OCI
// layouts; for Docker the index of "docker save" is beside, which says all that it
// needs.
type tarWriter struct {
	r reference.Reference

	mu        sync.Mutex
	f         *os.File
	tar       *tar.Writer
	written   map[digest.Digest]bool
	manifests map[digest.Digest]v1.Manifest
	broken    error // what ended the archive in the middle of a member
}

func createTar(r reference.Reference) (*tarWriter, error) {
	f, err := os.CreateTemp(filepath.Dir(r.Path), ".berth-copy-*")
	if err != nil {
		return nil, err
	}
	return &tarWriter{r: r, f: f, tar: tar.NewWriter(f), written: map[digest.Digest]bool{}, manifests: map[digest.Digest]v1.Manifest{}}, nil
}

// Single says that an archive for Docker holds one platform.
func (w *tarWriter) Single() bool { return w.r.Transport == reference.DockerArchive }

// PutBlob appends a blob. A failure is the archive's end: what was begun cannot be
// taken back.
func (w *tarWriter) PutBlob(_ context.Context, d v1.Descriptor, open opener) error {
	return w.member(d, func() error { return copyBlob(w.tar, open) })
}

// PutManifest appends a manifest, and remembers it.
func (w *tarWriter) PutManifest(_ context.Context, d v1.Descriptor, raw []byte) error {
	d.Size = int64(len(raw))
	var m v1.Manifest
	if w.Single() {
		if err := json.Unmarshal(raw, &m); err != nil {
			return fmt.Errorf("parse manifest %s: %w: %w", d.Digest, err, containerizer.ErrInvalid)
		}
	}
	err := w.member(d, func() error { _, err := w.tar.Write(raw); return err })
	w.mu.Lock()
	defer w.mu.Unlock()
	w.manifests[d.Digest] = m
	return err
}

func (w *tarWriter) member(d v1.Descriptor, write func() error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.written[d.Digest] || w.broken != nil {
		return w.broken
	}
	err := w.tar.WriteHeader(header(blobPath(d), d.Size))
	if err == nil {
		err = write()
	}
	if err != nil {
		w.broken = fmt.Errorf("write %q: %w", w.r, spaceError(err))
		return w.broken
	}
	w.written[d.Digest] = true
	return nil
}

func header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, Format: tar.FormatPAX}
}

// Commit ends the archive and puts it in its place.
func (w *tarWriter) Commit(_ context.Context, d v1.Descriptor) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.broken
	if err == nil {
		err = w.finish(d)
	}
	if err != nil {
		return fmt.Errorf("write %q: %w", w.r, spaceError(err))
	}
	return nil
}

func (w *tarWriter) finish(d v1.Descriptor) error {
	marker, err := json.Marshal(v1.ImageLayout{Version: v1.ImageLayoutVersion})
	if err != nil {
		return err
	}
	list, err := index([]v1.Descriptor{named(d, w.r)})
	if err != nil {
		return err
	}
	documents := map[string][]byte{v1.ImageLayoutFile: marker, v1.ImageIndexFile: list}
	if w.Single() {
		if documents[dockerIndex], err = w.dockerIndex(d); err != nil {
			return err
		}
	}
	for name, raw := range documents {
		if err := w.tar.WriteHeader(header(name, int64(len(raw)))); err != nil {
			return err
		}
		if _, err := w.tar.Write(raw); err != nil {
			return err
		}
	}
	if err := errors.Join(w.tar.Close(), w.f.Chmod(0o644), w.f.Close()); err != nil {
		return err
	}
	if err := os.Rename(w.f.Name(), w.r.Path); err != nil {
		return err
	}
	w.f = nil
	return nil
}

// dockerIndex is manifest.json for one image.
func (w *tarWriter) dockerIndex(d v1.Descriptor) ([]byte, error) {
	m, ok := w.manifests[d.Digest]
	if !ok || m.Config.Digest == "" {
		return nil, fmt.Errorf("%s is no manifest of one platform: %w", d.Digest, containerizer.ErrInvalid)
	}
	i := dockerImage{Config: blobPath(m.Config), RepoTags: []string{}}
	if n, err := reference.Parse(w.r.Name); w.r.Name != "" && err == nil && n.Tag != "" {
		i.RepoTags = append(i.RepoTags, n.String())
	}
	for _, l := range m.Layers {
		i.Layers = append(i.Layers, blobPath(l))
	}
	return json.Marshal([]dockerImage{i})
}

// Close removes what was not put in its place.
func (w *tarWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return nil
	}
	_ = w.f.Close() // it may be closed; what was not committed is of no interest
	err := os.Remove(w.f.Name())
	w.f = nil
	return err
}
