package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/reference"
)

// maxManifest is more than any manifest that is accepted later.
const maxManifest = 8 << 20

// accept are the media types of manifests. Schema 1 is among them so that a
// registry that has nothing else says so by its answer, not by a 404.
const accept = v1.MediaTypeImageIndex + ", " + v1.MediaTypeImageManifest +
	", application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json" +
	", application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.1"

var (
	_ containerizer.ImageOrigin = (*Origin)(nil)
	_ containerizer.RangeOpener = (*Origin)(nil)
)

// Origin is an image in a registry.
type Origin struct {
	client *Client
	http   *http.Client
	prefix string // URL of the repository
	ref    reference.Reference
}

// Close lets go of idle connections.
func (o *Origin) Close() error {
	o.http.CloseIdleConnections()
	return nil
}

// Resolve returns the manifest or index that the reference stands for.
func (o *Origin) Resolve(ctx context.Context) (v1.Descriptor, []byte, error) {
	identifier := o.ref.Tag
	if o.ref.Digest != "" {
		identifier = string(o.ref.Digest)
	}
	what := fmt.Sprintf("fetch the manifest of %q", o.ref)
	raw, mediaType, err := o.manifest(ctx, what, identifier)
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	d := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if o.ref.Digest != "" {
		d.Digest = o.ref.Digest // the store compares
	}
	return d, raw, nil
}

func (o *Origin) manifest(ctx context.Context, what, identifier string) ([]byte, string, error) {
	header := http.Header{"Accept": {accept}}
	var raw []byte
	var mediaType string
	err := o.client.retry(ctx, func() error {
		resp, err := o.get(ctx, what, "/manifests/"+identifier, header)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			return statusError(what, resp)
		}
		raw, err = io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
		if err != nil {
			return temporary(what, err)
		}
		if len(raw) > maxManifest {
			return fmt.Errorf("%s: it has more than %d bytes: %w", what, maxManifest, containerizer.ErrInvalid)
		}
		mediaType, _, _ = strings.Cut(resp.Header.Get("Content-Type"), ";")
		mediaType = strings.TrimSpace(mediaType)
		return nil
	})
	return raw, mediaType, err
}

// get sends one request.
func (o *Origin) get(ctx context.Context, what, path string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.prefix+path, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", what, err, containerizer.ErrInvalid)
	}
	maps.Copy(req.Header, header)
	req.Header.Set("User-Agent", o.client.o.UserAgent)
	resp, err := o.http.Do(req)
	if err != nil {
		return nil, o.client.explain(ctx, what, err)
	}
	return resp, nil
}

// Open returns a manifest or blob.
func (o *Origin) Open(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	if isManifest(d.MediaType) {
		raw, _, err := o.manifest(ctx, fmt.Sprintf("fetch manifest %s of %q", d.Digest, o.ref), string(d.Digest))
		if err != nil {
			return nil, err
		}
		return io.NopCloser(strings.NewReader(string(raw))), nil
	}
	return o.OpenAt(ctx, d, 0)
}

// OpenAt returns a blob from byte offset on.
func (o *Origin) OpenAt(ctx context.Context, d v1.Descriptor, offset int64) (io.ReadCloser, error) {
	b := &blob{origin: o, ctx: ctx, d: d, from: offset, off: offset, what: fmt.Sprintf("fetch blob %s of %q", d.Digest, o.ref)}
	if offset < 0 || d.Size > 0 && offset > d.Size {
		return nil, fmt.Errorf("%s: it has no byte %d: %w", b.what, offset, containerizer.ErrInvalid)
	}
	if d.Size > 0 && offset == d.Size {
		return io.NopCloser(strings.NewReader("")), nil
	}
	if err := o.client.retry(ctx, b.connect); err != nil {
		return nil, err
	}
	return b, nil
}

func isManifest(t string) bool {
	switch t {
	case v1.MediaTypeImageIndex, v1.MediaTypeImageManifest,
		"application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json":
		return true
	}
	return false
}

// contentRange reads "bytes FIRST-LAST/TOTAL".
func contentRange(s string) (first, total int64, err error) {
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, size, ok2 := strings.Cut(rest, "/")
	from, _, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, errors.New("malformed Content-Range")
	}
	if first, err = strconv.ParseInt(from, 10, 64); err != nil {
		return 0, 0, err
	}
	if size == "*" {
		return first, -1, nil
	}
	total, err = strconv.ParseInt(size, 10, 64)
	return first, total, err
}
