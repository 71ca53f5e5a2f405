package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/reference"
)

// Create prepares to write one image where r means. A layout keeps the images that
// it has; an archive is written aside and takes the place of one that was there.
func Create(r reference.Reference) (containerizer.ImageDestination, error) {
	if r.Digest != "" {
		return nil, fmt.Errorf("%q cannot be written to: it names a digest, which follows from the content: %w", r, containerizer.ErrInvalid)
	}
	var d containerizer.ImageDestination
	var err error
	switch r.Transport {
	case reference.OCI:
		d, err = createLayout(r)
	case reference.OCIArchive, reference.DockerArchive:
		d, err = createTar(r)
	default:
		err = fmt.Errorf("transport %q: %w", r.Transport, containerizer.ErrUnsupported)
	}
	if err != nil {
		return nil, fmt.Errorf("write %q: %w", r, err)
	}
	return d, nil
}

// named is a descriptor as index.json has it under the name of r.
func named(d v1.Descriptor, r reference.Reference) v1.Descriptor {
	d.Annotations = nil
	if r.Name == "" {
		return d
	}
	d.Annotations = map[string]string{v1.AnnotationRefName: r.Name}
	if n, err := reference.Parse(r.Name); r.Transport == reference.DockerArchive && err == nil && !n.IsPath() {
		d.Annotations[containerdName] = n.String()
	}
	return d
}

// index is an index.json of images.
func index(images []v1.Descriptor) ([]byte, error) {
	x := v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: images}
	x.SchemaVersion = 2
	return json.Marshal(x)
}

// layoutWriter writes into an OCI image layout in a directory.
type layoutWriter struct {
	r reference.Reference
}

func createLayout(r reference.Reference) (*layoutWriter, error) {
	if err := os.MkdirAll(filepath.Join(r.Path, "blobs"), 0o755); err != nil { //nolint:gosec // the user's own directory
		return nil, err
	}
	w := &layoutWriter{r: r}
	marker := filepath.Join(r.Path, v1.ImageLayoutFile)
	if _, err := os.Lstat(marker); err == nil {
		return w, nil
	}
	entries, err := os.ReadDir(r.Path)
	if err != nil {
		return nil, err
	}
	if len(entries) > 1 {
		return nil, fmt.Errorf("the directory is neither an OCI image layout nor empty: %w", containerizer.ErrFailedPrecondition)
	}
	raw, err := json.Marshal(v1.ImageLayout{Version: v1.ImageLayoutVersion})
	if err != nil {
		return nil, err
	}
	return w, w.place(v1.ImageLayoutFile, writeBytes(raw))
}

// writeBytes is a content of place.
func writeBytes(raw []byte) func(*os.File) error {
	return func(f *os.File) error { _, err := f.Write(raw); return err }
}

// place writes a file aside and gives it its name.
func (w *layoutWriter) place(name string, write func(*os.File) error) error {
	path := filepath.Join(w.r.Path, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // the user's own directory
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".berth-*")
	if err != nil {
		return err
	}
	err = errors.Join(write(f), f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// Single is false: an index is an image like others.
func (*layoutWriter) Single() bool { return false }

// PutBlob stores a blob that is not there.
func (w *layoutWriter) PutBlob(_ context.Context, d v1.Descriptor, open opener) error {
	if info, err := os.Lstat(filepath.Join(w.r.Path, blobPath(d))); err == nil && info.Mode().IsRegular() && info.Size() == d.Size {
		return nil
	}
	return w.wrap(w.place(blobPath(d), func(f *os.File) error { return copyBlob(f, open) }))
}

// PutManifest stores a manifest as a blob.
func (w *layoutWriter) PutManifest(_ context.Context, d v1.Descriptor, raw []byte) error {
	return w.wrap(w.place(blobPath(d), writeBytes(raw)))
}

// Commit puts the image into index.json, in the place of one of the same name.
func (w *layoutWriter) Commit(_ context.Context, d v1.Descriptor) error {
	dir, err := openDir(w.r.Path)
	if err != nil {
		return w.wrap(err)
	}
	defer func() { _ = dir.Close() }()
	images, err := readIndex(dir)
	if err != nil && !errors.Is(err, containerizer.ErrNotFound) {
		return w.wrap(err)
	}
	images = slices.DeleteFunc(images, func(o v1.Descriptor) bool {
		return o.Annotations[v1.AnnotationRefName] == w.r.Name && (w.r.Name != "" || o.Digest == d.Digest)
	})
	raw, err := index(append(images, named(d, w.r)))
	if err != nil {
		return w.wrap(err)
	}
	return w.wrap(w.place(v1.ImageIndexFile, writeBytes(raw)))
}

// Close does nothing: blobs without an image harm nobody.
func (*layoutWriter) Close() error { return nil }

func (w *layoutWriter) wrap(err error) error {
	if err != nil {
		return fmt.Errorf("write %q: %w", w.r, spaceError(err))
	}
	return nil
}
