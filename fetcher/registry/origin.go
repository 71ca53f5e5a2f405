package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/reference"
	"github.com/berth-dev/berth/fetcher/registry/hosts"
)

const (
	// maxManifest is more than any manifest that is accepted later.
	maxManifest = 8 << 20
	// smallBlob is how large a blob may be that is fetched and verified whole, so that
	// a mirror's mistake is found before it is passed on.
	smallBlob = 1 << 20
)

// accept are the media types of manifests. Schema 1 is among them so that a
// registry that has nothing else says so by its answer, not by a 404.
const accept = v1.MediaTypeImageIndex + ", " + v1.MediaTypeImageManifest +
	", application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json" +
	", application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.1"

var (
	_ containerizer.TaggedOrigin   = (*Origin)(nil)
	_ containerizer.ReferredOrigin = (*Origin)(nil)
	_ containerizer.RangeOpener    = (*Origin)(nil)
	_ containerizer.Doubter        = (*Origin)(nil)
)

// Origin is an image in a registry, which may be had from several hosts.
type Origin struct {
	client    *Client
	ref       reference.Reference
	endpoints []*endpoint // the last one is the registry's server

	mu     sync.Mutex
	bad    map[*endpoint]bool            // they lied, or do not want us
	served map[digest.Digest][]*endpoint // who sent a blob
}

// Close lets go of idle connections.
func (o *Origin) Close() error {
	for _, e := range o.endpoints {
		e.close()
	}
	return nil
}

// Resolve returns the manifest or index that the reference stands for.
func (o *Origin) Resolve(ctx context.Context) (v1.Descriptor, []byte, error) {
	identifier, need := o.ref.Tag, hosts.Resolve
	if o.ref.Digest != "" {
		identifier, need = string(o.ref.Digest), hosts.Pull
	}
	what := fmt.Sprintf("fetch the manifest of %q", o.ref)
	raw, mediaType, err := o.manifest(ctx, what, identifier, o.ref.Digest, need)
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	d := v1.Descriptor{MediaType: mediaType, Digest: o.ref.Digest, Size: int64(len(raw))}
	if d.Digest == "" {
		d.Digest = digest.FromBytes(raw)
	}
	return d, raw, nil
}

// ResolveTag returns the manifest that another tag of the repository stands for.
func (o *Origin) ResolveTag(ctx context.Context, tag string) (v1.Descriptor, []byte, error) {
	r := o.ref
	r.Tag, r.Digest = tag, ""
	raw, mediaType, err := o.manifest(ctx, fmt.Sprintf("fetch the manifest of %q", r), tag, "", hosts.Resolve)
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	return v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, raw, nil
}

// manifest fetches a manifest, of which want is the digest if that is known.
func (o *Origin) manifest(ctx context.Context, what, identifier string, want digest.Digest, need hosts.Capability) (raw []byte, mediaType string, err error) {
	header := http.Header{"Accept": {accept}}
	err = o.try(ctx, &question{what: what, need: need}, func(e *endpoint, limit time.Duration) error {
		resp, err := e.get(ctx, what, "/manifests/"+identifier, header, limit)
		if err != nil {
			return err
		}
		if raw, err = o.document(what, resp, maxManifest, want); err != nil {
			return err
		}
		mediaType, _, _ = strings.Cut(resp.Header.Get("Content-Type"), ";")
		mediaType = strings.TrimSpace(mediaType)
		return nil
	})
	return raw, mediaType, err
}

// document reads a response of at most limit bytes, and compares it with its
// digest.
func (o *Origin) document(what string, resp *http.Response, limit int64, want digest.Digest) ([]byte, error) {
	f := newFlow(resp.Body, o.client.o.Stall)
	defer f.close()
	if resp.StatusCode != http.StatusOK {
		return nil, statusError(what, resp)
	}
	if err := checkEncoding(what, resp); err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, temporary(what, err)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%s: it has more than %d bytes: %w", what, limit, containerizer.ErrInvalid)
	}
	if want == "" {
		return raw, nil
	}
	if got := want.Algorithm().FromBytes(raw); got != want {
		return nil, &lie{fmt.Errorf("%s: the content of %s has the digest %s: %w", what, want, got, containerizer.ErrDataCorrupt)}
	}
	return raw, nil
}

// checkEncoding refuses what was not asked for: the bytes would not be those of
// the digest.
func checkEncoding(what string, resp *http.Response) error {
	if c := resp.Header.Get("Content-Encoding"); c != "" && c != "identity" {
		return &lie{fmt.Errorf("%s: it comes encoded as %.40q: %w", what, c, containerizer.ErrDataCorrupt)}
	}
	return nil
}

// Open returns a manifest or blob. Small ones are verified already.
func (o *Origin) Open(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	if err := d.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("fetch %q of %q: %w: %w", d.Digest, o.ref, err, containerizer.ErrInvalid)
	}
	if isManifest(d.MediaType) {
		raw, _, err := o.manifest(ctx, fmt.Sprintf("fetch manifest %s of %q", d.Digest, o.ref), string(d.Digest), d.Digest, hosts.Pull)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(bytes.NewReader(raw)), nil
	}
	return o.OpenAt(ctx, d, 0)
}

// OpenAt returns a blob from byte offset on.
func (o *Origin) OpenAt(ctx context.Context, d v1.Descriptor, offset int64) (io.ReadCloser, error) {
	b := &blob{origin: o, ctx: ctx, d: d, from: offset, off: offset, mark: offset, what: fmt.Sprintf("fetch blob %s of %q", d.Digest, o.ref)}
	b.patience.client = o.client
	if err := d.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", b.what, err, containerizer.ErrInvalid)
	}
	if offset < 0 || d.Size > 0 && offset > d.Size {
		return nil, fmt.Errorf("%s: it has no byte %d: %w", b.what, offset, containerizer.ErrInvalid)
	}
	if d.Size > 0 && offset == d.Size {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	if d.Size > 0 && d.Size <= smallBlob {
		return o.small(ctx, b)
	}
	if err := b.connect(); err != nil {
		return nil, err
	}
	return b, nil
}

// small fetches a blob whole.
func (o *Origin) small(ctx context.Context, b *blob) (io.ReadCloser, error) {
	var raw []byte
	err := o.try(ctx, &question{what: b.what, need: hosts.Pull}, func(e *endpoint, limit time.Duration) error {
		resp, err := e.get(ctx, b.what, "/blobs/"+string(b.d.Digest), nil, limit)
		if err != nil {
			return err
		}
		if resp.StatusCode == http.StatusOK && resp.ContentLength >= 0 && resp.ContentLength != b.d.Size {
			_ = resp.Body.Close() // is not wanted
			return b.wrongSize(resp.ContentLength)
		}
		if raw, err = o.document(b.what, resp, b.d.Size, b.d.Digest); errors.Is(err, containerizer.ErrInvalid) {
			err = b.wrongSize(b.d.Size + 1)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(raw[b.off:])), nil
}

// Doubt excludes the hosts that a blob came from. A registry's server is only
// suspected when no mirror is.
func (o *Origin) Doubt(d v1.Descriptor) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	suspects := o.served[d.Digest]
	delete(o.served, d.Digest)
	var mirrors []*endpoint
	for _, e := range suspects {
		if !e.server {
			mirrors = append(mirrors, e)
		}
	}
	if len(mirrors) > 0 {
		suspects = mirrors
	}
	before := len(o.bad)
	for _, e := range suspects {
		o.exclude(e)
	}
	if len(o.bad) == before {
		return false // these were excluded already, or there are none
	}
	for _, e := range o.endpoints {
		if e.can&hosts.Pull != 0 && !o.bad[e] {
			return true
		}
	}
	return false
}

// exclude is for callers that hold mu.
func (o *Origin) exclude(e *endpoint) {
	if o.bad == nil {
		o.bad = map[*endpoint]bool{}
	}
	o.bad[e] = true
}

// serves notes who sends a blob.
func (o *Origin) serves(d digest.Digest, e *endpoint) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.served == nil {
		o.served = map[digest.Digest][]*endpoint{}
	}
	o.served[d] = append(o.served[d], e)
}

func isManifest(t string) bool {
	switch t {
	case v1.MediaTypeImageIndex, v1.MediaTypeImageManifest,
		"application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json":
		return true
	}
	return false
}

// contentRange reads "bytes FIRST-LAST/TOTAL"; total is -1 for "*".
func contentRange(s string) (first, last, total int64, err error) {
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, size, ok2 := strings.Cut(rest, "/")
	from, to, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, 0, errors.New("malformed Content-Range")
	}
	total = -1
	numbers := []struct {
		s string
		n *int64
	}{{from, &first}, {to, &last}}
	if size != "*" {
		numbers = append(numbers, struct {
			s string
			n *int64
		}{size, &total})
	}
	for _, x := range numbers {
		if strings.Trim(x.s, "0123456789") != "" { // no signs
			return 0, 0, 0, errors.New("malformed Content-Range")
		}
		if *x.n, err = strconv.ParseInt(x.s, 10, 64); err != nil {
			return 0, 0, 0, err
		}
	}
	if last < first || total >= 0 && last >= total {
		return 0, 0, 0, errors.New("impossible Content-Range")
	}
	return first, last, total, nil
}
