package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	inUse := map[string]bool{}
	for _, u := range uses {
		keep(layers, u.Stack)
		keep(inUse, u.Stack)
	}
	if err := s.collectAside(inUse); err != nil {
		return c, err
	}
	for _, i := range images {
		keep(layers, i.LayerDirs())
		for _, d := range i.BlobDigests() {
			blobs[string(d)] = true
		}
	}
	c, err = s.collect(ctx, layers, blobs)
	return c, errors.Join(err, s.sweepOrigins())
}

// collectAside takes away layers set aside that no container can use any more.
func (s *Store) collectAside(inUse map[string]bool) error {
	names, err := s.names("layers")
	if err != nil {
		return err
	}
	for _, n := range names {
		if was, ok := aside(n); ok && !inUse[was] {
			if err := s.Trash(s.path("layers", n)); err != nil {
				return err
			}
		}
	}
	return nil
}

func keep(set map[string]bool, names []string) {
	for _, n := range names {
		set[n] = true
	}
}

// BlobDigests are those of all blobs of an image, each once.
func (i *Image) BlobDigests() []digest.Digest {
	out := []digest.Digest{i.Manifest.Digest, i.ConfigID.Digest}
	if i.Index != "" {
		out = append(out, i.Index)
	}
	for _, l := range i.Layers {
		out = append(out, l.Blob.Digest)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// LayerDirs are the names of all layer directories of an image, each once.
func (i *Image) LayerDirs() []string {
	out := slices.Clone(i.Stack)
	for _, l := range i.Layers {
		out = append(out, LayerName(l.DiffID))
	}
	slices.Sort(out)
	return slices.Compact(out)
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
		c.Bytes += s.BlobBytes(d)
		if err := remove(s.BlobPath(d)); err != nil {
			return c, err
		}
	}
	return c, nil
}

// BlobBytes is what a blob takes; 0 when it is not there.
func (s *Store) BlobBytes(d digest.Digest) int64 {
	info, err := os.Lstat(s.BlobPath(d))
	if err != nil {
		return 0
	}
	return blockBytes(info)
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
