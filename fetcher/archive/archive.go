package archive

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/reference"
)

// Connect opens the image that r means. tempDir is for expanding compressed
// archives; "" is os.TempDir().
func Connect(ctx context.Context, r reference.Reference, tempDir string) (containerizer.ImageOrigin, error) {
	o, err := connect(ctx, r, tempDir)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", r, err)
	}
	return o, nil
}

func connect(ctx context.Context, r reference.Reference, tempDir string) (containerizer.ImageOrigin, error) {
	if r.Transport == reference.OCI {
		d, err := openDir(r.Path)
		if err != nil {
			return nil, err
		}
		return connectLayout(d, r)
	}
	t, err := openTar(ctx, r.Path, tempDir)
	if err != nil {
		return nil, err
	}
	if r.Transport == reference.OCIArchive {
		return connectLayout(t, r)
	}
	o, err := connectDocker(ctx, t, r)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return o, nil
}

func connectLayout(f files, r reference.Reference) (containerizer.ImageOrigin, error) {
	all, err := readIndex(f)
	var d v1.Descriptor
	if err == nil {
		d, err = choose(all, r)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &layout{f, d}, nil
}

// Contents lists the images of an archive file. One that is in both forms, as
// "docker save" of today writes, is read as OCI: it has the manifests then.
func Contents(ctx context.Context, path, tempDir string) ([]containerizer.ArchivedImage, error) {
	t, err := openTar(ctx, path, tempDir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = t.Close() }() // was only read
	r := reference.Reference{Transport: reference.OCIArchive, Path: path}
	if t.has(v1.ImageIndexFile) && t.has(v1.ImageLayoutFile) {
		all, err := readIndex(t)
		if err != nil {
			return nil, fmt.Errorf("archive %q: %w", path, err)
		}
		return layoutContents(all, r), nil
	}
	r.Transport = reference.DockerArchive
	if !t.has(dockerIndex) {
		return nil, fmt.Errorf("%q is neither an OCI archive (no %q) nor one of \"docker save\" (no %q): %w", path, v1.ImageIndexFile, dockerIndex, containerizer.ErrInvalid)
	}
	images, err := readDockerIndex(t)
	if err != nil {
		return nil, fmt.Errorf("archive %q: %w", path, err)
	}
	return dockerContents(images, r), nil
}
