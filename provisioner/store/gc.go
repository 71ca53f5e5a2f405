package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Collected tells what was taken away.
type Collected struct {
	Layers int
	Bytes  int64
}

// CollectGarbage takes away layers and blobs that no image, container or live lease
// needs. Precondition: the gc lock is held alone. images are those that stay.
func (s *Store) CollectGarbage(ctx context.Context, images []*Image) (Collected, error) {
	var c Collected
	layers, blobs, err := s.leased()
	if err != nil {
		return c, err
	}
	uses, _, err := s.Uses() // a broken record has no layers to keep; Check reports it
	if err != nil {
		return c, err
	}
	for _, u := range uses {
		keep(layers, u.Stack)
	}
	for _, i := range images {
		keep(layers, i.Stack)
		for _, l := range i.Layers {
			layers[LayerName(l.DiffID)] = true
		}
		for _, d := range i.BlobDigests() {
			blobs[string(d)] = true
		}
	}
	c, err = s.collect(ctx, layers, blobs)
	return c, errors.Join(err, s.sweepOrigins())
}

func keep(set map[string]bool, names []string) {
	for _, n := range names {
		set[n] = true
	}
}

// BlobDigests are those of all blobs of an image.
func (i *Image) BlobDigests() []digest.Digest {
	out := []digest.Digest{i.Manifest.Digest, i.ConfigID.Digest}
	if i.Index != "" {
		out = append(out, i.Index)
	}
	for _, l := range i.Layers {
		out = append(out, l.Blob.Digest)
	}
	return out
}

func (s *Store) collect(ctx context.Context, layers, blobs map[string]bool) (c Collected, err error) {
	names, err := s.Layers()
	if err != nil {
		return c, err
	}
	for _, name := range names {
		if ctx.Err() != nil {
			return c, context.Cause(ctx)
		}
		if layers[name] {
			continue
		}
		if l, err := s.Layer(name); err == nil {
			c.Bytes += l.Content.DiskBytes
		}
		if err := s.Trash(s.path("layers", name)); err != nil {
			return c, err
		}
		if !IsFix(name) {
			c.Layers++
		}
	}
	kept, err := s.Blobs()
	if err != nil {
		return c, err
	}
	for _, d := range kept {
		if blobs[string(d)] {
			continue
		}
		if info, err := os.Lstat(s.BlobPath(d)); err == nil {
			c.Bytes += info.Size()
		}
		if err := remove(s.BlobPath(d)); err != nil {
			return c, err
		}
	}
	return c, nil
}

// BlobBytes is what all blobs take.
func (s *Store) BlobBytes() (int64, error) {
	return sizeBelow(s.path("oci", "blobs"))
}

// WritableBytes is what containers wrote.
func (s *Store) WritableBytes() (int64, error) {
	return sizeBelow(s.path("containers"))
}

// sizeBelow adds up the blocks of all files. What vanishes meanwhile does not count.
func sizeBelow(dir string) (int64, error) {
	var total int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if info, err := d.Info(); err == nil && !d.IsDir() {
			total += blockBytes(info)
		}
		return nil
	})
	return total, err
}

// Describe is a descriptor as records keep it: without annotations and the like.
func Describe(d v1.Descriptor) v1.Descriptor {
	return v1.Descriptor{MediaType: strings.TrimSpace(d.MediaType), Digest: d.Digest, Size: d.Size}
}
