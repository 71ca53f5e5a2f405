package provisioner

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/manifest"
	"github.com/berth-dev/berth/provisioner/stack"
	"github.com/berth-dev/berth/provisioner/store"
	"github.com/berth-dev/berth/provisioner/unpack"
)

// verifyBlob compares a blob with its digest.
func (p *Provisioner) verifyBlob(d digest.Digest) error {
	if err := manifest.CheckDigest(d); err != nil {
		return err
	}
	f, err := os.Open(p.store.BlobPath(d))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	h := manifest.NewHash(d)
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := manifest.Sum(d, h); got != d {
		return fmt.Errorf("its content has the digest %s: %w", got, containerizer.ErrDataCorrupt)
	}
	return nil
}

// verifyDir is all that can be verified of a layer without its list and its blob.
func (p *Provisioner) verifyDir(l *store.Layer) error {
	path := p.store.LayerPath(l.Name)
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%q is not a directory: %w", path, containerizer.ErrDataCorrupt)
	}
	return nil
}

// verifyFiles unpacks a layer's blob again and compares the files.
func (p *Provisioner) verifyFiles(ctx context.Context, lease *store.Lease, l *store.Layer) error {
	stage, err := lease.Stage()
	if err != nil {
		return err
	}
	defer func() { _ = p.store.Trash(stage) }() // its lease gives it up in any case
	target, err := makeTarget(stage)
	if err != nil {
		return err
	}
	defer func() { _ = target.Close() }()
	blob, err := os.Open(p.store.BlobPath(l.Blob))
	if err != nil {
		return err
	}
	defer func() { _ = blob.Close() }()
	res, err := unpack.Run(ctx, p.o.UnpackCommand, target, blob, p.o.Limits)
	if err != nil {
		return fmt.Errorf("unpack again: %w", err)
	}
	if store.LayerName(res.DiffID) != l.Name {
		return fmt.Errorf("its blob %s has the diffID %s: %w", l.Blob, res.DiffID, containerizer.ErrDataCorrupt)
	}
	return stack.Compare(p.store.LayerPath(l.Name), filepath.Join(stage, "fs"))
}
