package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/reference"
)

const (
	maxDocument    = 8 << 20
	containerdName = "io.containerd.image.name"
)

// layout is one image in an OCI image layout.
type layout struct {
	files files
	d     v1.Descriptor
}

// readIndex checks that f is a layout and reads its index.
func readIndex(f files) ([]v1.Descriptor, error) {
	raw, err := readAll(f, v1.ImageLayoutFile)
	if errors.Is(err, containerizer.ErrNotFound) {
		return nil, fmt.Errorf("it is not an OCI image layout (it has no file %q): %w", v1.ImageLayoutFile, containerizer.ErrInvalid)
	}
	if err != nil {
		return nil, err
	}
	var l v1.ImageLayout
	if err := json.Unmarshal(raw, &l); err != nil || !strings.HasPrefix(l.Version, "1.") {
		return nil, fmt.Errorf("%q does not name version 1 of the image layout: %w", v1.ImageLayoutFile, containerizer.ErrUnsupported)
	}
	raw, err = readAll(f, v1.ImageIndexFile)
	if err != nil {
		return nil, err
	}
	var x v1.Index
	if err := json.Unmarshal(raw, &x); err != nil {
		return nil, fmt.Errorf("parse %q: %w: %w", v1.ImageIndexFile, err, containerizer.ErrInvalid)
	}
	return x.Manifests, nil
}

// choose finds the one image that r means.
func choose(all []v1.Descriptor, r reference.Reference) (v1.Descriptor, error) {
	var found []v1.Descriptor
	var have []string
	for _, d := range all {
		name := d.Annotations[v1.AnnotationRefName]
		if name == "" {
			name = "@" + string(d.Digest)
		}
		have = append(have, name)
		if r.Digest != "" && d.Digest != r.Digest {
			continue
		}
		if r.Name != "" && r.Name != name && !sameName(r.Name, d.Annotations[containerdName]) {
			continue
		}
		found = append(found, d)
	}
	if len(found) == 0 {
		return v1.Descriptor{}, fmt.Errorf("there is no such image in it (there is: %s): %w", strings.Join(have, ", "), containerizer.ErrNotFound)
	}
	for _, d := range found[1:] {
		if d.Digest != found[0].Digest {
			return v1.Descriptor{}, fmt.Errorf("there are several images in it, name one of them (%s): %w", strings.Join(have, ", "), containerizer.ErrInvalid)
		}
	}
	return found[0], nil
}

// sameName compares two names of images in a registry, as users may write them.
func sameName(a, b string) bool {
	ra, erra := reference.Parse(a)
	rb, errb := reference.Parse(b)
	return erra == nil && errb == nil && ra == rb
}

// Resolve returns the manifest or index chosen.
func (l *layout) Resolve(context.Context) (v1.Descriptor, []byte, error) {
	raw, err := readAll(l.files, blobPath(l.d))
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	return l.d, raw, nil
}

// blobPath makes no path of a digest with anything but letters, digits and '='.
func blobPath(d v1.Descriptor) string {
	algorithm, hex, _ := strings.Cut(string(d.Digest), ":")
	if strings.ContainsAny(algorithm+hex, "/\\.") {
		return "blobs/invalid"
	}
	return "blobs/" + algorithm + "/" + hex
}

// Open returns a blob.
func (l *layout) Open(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	r, _, err := l.files.open(blobPath(d))
	return r, err
}

// Close closes the layout.
func (l *layout) Close() error { return l.files.Close() }

// layoutContents lists the images of a layout for loading.
func layoutContents(all []v1.Descriptor, r reference.Reference) []containerizer.ArchivedImage {
	at := map[string]int{}
	var out []containerizer.ArchivedImage
	for _, d := range all {
		one := r
		one.Digest = d.Digest
		key := one.String()
		i, ok := at[key]
		if !ok {
			i = len(out)
			at[key] = i
			out = append(out, containerizer.ArchivedImage{Reference: key})
		}
		for _, name := range []string{d.Annotations[containerdName], d.Annotations[v1.AnnotationRefName]} {
			// A bare tag, such as "latest", names no repository.
			if !strings.ContainsAny(name, "/:") {
				continue
			}
			if n, err := reference.Parse(name); err == nil && !n.IsPath() {
				out[i].Names = append(out[i].Names, n.String())
				break
			}
		}
	}
	return out
}
