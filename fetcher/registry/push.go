package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/reference"
	"github.com/berth-dev/berth/fetcher/registry/credential"
	"github.com/berth-dev/berth/fetcher/registry/hosts"
)

var _ containerizer.ImageDestination = (*Destination)(nil)

// Destination is an image in a registry that is written.
type Destination struct {
	close  func()
	repo   name.Repository
	ref    reference.Reference
	pusher *remote.Pusher

	mu        sync.Mutex
	manifests map[digest.Digest]document
}

// Push prepares to write the image r to the server of its registry; mirrors are not
// written to. The pushing is go-containerregistry's: it knows which blobs are there,
// tries again, and writes manifests as they are.
func (c *Client) Push(ctx context.Context, r reference.Reference) (*Destination, error) {
	c.once.Do(c.setup)
	what := fmt.Sprintf("push to %q", r)
	all, err := hosts.Load(c.o.Dirs, r.Domain)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	h := &all[len(all)-1]
	if err := c.mayUse(h); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	host, plain := r.Domain, c.plain(r.Domain)
	if h.URL != nil {
		host, plain = h.URL.Host, h.URL.Scheme == "http"
	}
	if h.Can&hosts.Push == 0 {
		return nil, fmt.Errorf("%s: the capabilities in %q do not allow it: %w", what, h.From, containerizer.ErrPermission)
	}
	var opts []name.Option
	if plain {
		opts = append(opts, name.Insecure)
	}
	reg, err := name.NewRegistry(host, opts...)
	if err != nil {
		return nil, fmt.Errorf("%s: registry %q: %w: %w", what, host, err, containerizer.ErrInvalid)
	}
	auth, err := c.pushCredentials(ctx, host, target{registry: r.Domain, repository: r.Repository})
	if err != nil {
		return nil, fmt.Errorf("%s: find credentials for %q: %w", what, host, err)
	}
	own := func(u *url.URL) bool { return u.Host == reg.RegistryStr() }
	rt, closeIdle, err := c.transports(h, c.insecure(host), own)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	rt = &guard{next: &settled{next: rt}, plain: func(other string) bool { return other == host && plain || other != host && c.plain(other) }}
	rt = &headed{next: rt, own: own, header: h.Header}
	if h.URL != nil && h.URL.Path != usualBase {
		rt = &rebased{next: rt, own: own, base: h.URL.Path}
	}
	const jobs = 4
	p, err := remote.NewPusher(remote.WithAuth(authn.FromConfig(auth)), remote.WithTransport(rt), remote.WithUserAgent(c.o.UserAgent), remote.WithJobs(jobs))
	if err != nil {
		closeIdle()
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return &Destination{close: closeIdle, repo: reg.Repo(r.Repository), ref: r, pusher: p, manifests: map[digest.Digest]document{}}, nil
}

// pushCredentials finds what to show. Hardly a registry takes images from who shows
// nothing, so trouble in finding it is not passed over.
func (c *Client) pushCredentials(ctx context.Context, host string, t target) (authn.AuthConfig, error) {
	if credential.Hostname(host) == "docker.io" {
		host = dockerServer
	}
	auth, trouble, err := c.credentials(ctx, host, t)
	if err == nil && auth == (authn.AuthConfig{}) {
		err = trouble
	}
	return auth, err
}

// settled does without TLS only where there is none: a certificate that is not
// trusted is no reason for it (as otherScheme has it).
type settled struct {
	next http.RoundTripper

	mu  sync.Mutex
	bad map[string]error // host -> what is wrong with its certificate
}

// RoundTrip remembers.
func (t *settled) RoundTrip(r *http.Request) (*http.Response, error) {
	t.mu.Lock()
	err := t.bad[r.URL.Host]
	t.mu.Unlock()
	if err != nil && r.URL.Scheme == "http" {
		return nil, err
	}
	resp, err := t.next.RoundTrip(r)
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.bad == nil {
			t.bad = map[string]error{}
		}
		t.bad[r.URL.Host] = err
	}
	return resp, err
}

// headed adds the configured headers to requests to the host they are for.
type headed struct {
	next   http.RoundTripper
	own    func(*url.URL) bool
	header http.Header
}

// RoundTrip adds them.
func (t *headed) RoundTrip(r *http.Request) (*http.Response, error) {
	if len(t.header) > 0 && t.own(r.URL) {
		r = r.Clone(r.Context())
		maps.Copy(r.Header, t.header)
	}
	return t.next.RoundTrip(r)
}

// Single is false: registries have indexes.
func (*Destination) Single() bool { return false }

// PutBlob uploads a blob that the repository does not have.
func (d *Destination) PutBlob(ctx context.Context, blob v1.Descriptor, open func() (io.ReadCloser, error)) error {
	h, err := ggcr.NewHash(string(blob.Digest))
	if err != nil {
		return fmt.Errorf("push blob %q: %w: %w", blob.Digest, err, containerizer.ErrInvalid)
	}
	l := &upload{d: blob, hash: h, open: open}
	err = d.pusher.Upload(ctx, d.repo, l)
	if cause := l.failed.Load(); cause != nil { // it is here, not there
		return *cause
	}
	return d.wrap(ctx, "push blob "+string(blob.Digest), err)
}

// PutManifest stores a manifest by its digest.
func (d *Destination) PutManifest(ctx context.Context, m v1.Descriptor, raw []byte) error {
	doc := document{raw: raw, mediaType: types.MediaType(m.MediaType)}
	d.mu.Lock()
	d.manifests[m.Digest] = doc
	d.mu.Unlock()
	return d.wrap(ctx, "push manifest "+string(m.Digest), d.pusher.Push(ctx, d.repo.Digest(string(m.Digest)), doc))
}

// Commit tags a manifest.
func (d *Destination) Commit(ctx context.Context, m v1.Descriptor) error {
	if d.ref.Digest != "" {
		if d.ref.Digest != m.Digest {
			return fmt.Errorf("push to %q: the image has the digest %s: %w", d.ref, m.Digest, containerizer.ErrInvalid)
		}
		return nil
	}
	d.mu.Lock()
	doc := d.manifests[m.Digest]
	d.mu.Unlock()
	return d.wrap(ctx, "push tag "+d.ref.Tag, d.pusher.Push(ctx, d.repo.Tag(d.ref.Tag), doc))
}

// Close gives up connections of its own.
func (d *Destination) Close() error {
	d.close()
	return nil
}

func (d *Destination) wrap(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	what = fmt.Sprintf("%s to %q", what, d.ref)
	if te, ok := errors.AsType[*transport.Error](err); ok && ctx.Err() == nil {
		err = classify(what, te.StatusCode, te.Error(), 0)
	} else {
		err = explain(ctx, what, err)
	}
	if t, ok := errors.AsType[*transient](err); ok { // it was tried again already
		return t.error
	}
	return err
}

// document is a manifest as its bytes.
type document struct {
	raw       []byte
	mediaType types.MediaType
}

// RawManifest implements [remote.Taggable].
func (d document) RawManifest() ([]byte, error) { return d.raw, nil }

// MediaType tells how to send it.
func (d document) MediaType() (types.MediaType, error) { return d.mediaType, nil }

// upload is a blob as go-containerregistry wants it.
type upload struct {
	d      v1.Descriptor
	hash   ggcr.Hash
	open   func() (io.ReadCloser, error)
	failed atomic.Pointer[error] // connections read in goroutines of their own
}

// Digest is the blob's.
func (u *upload) Digest() (ggcr.Hash, error) { return u.hash, nil }

// Size is the blob's.
func (u *upload) Size() (int64, error) { return u.d.Size, nil }

// MediaType is the blob's.
func (u *upload) MediaType() (types.MediaType, error) { return types.MediaType(u.d.MediaType), nil }

// DiffID is not asked for.
func (*upload) DiffID() (ggcr.Hash, error) { return ggcr.Hash{}, errors.ErrUnsupported }

// Uncompressed is not asked for.
func (*upload) Uncompressed() (io.ReadCloser, error) { return nil, errors.ErrUnsupported }

// Compressed opens the content. Errors in reading it are remembered: those of the
// upload hide them.
func (u *upload) Compressed() (io.ReadCloser, error) {
	u.failed.Store(nil)
	r, err := u.open()
	if err != nil {
		u.failed.Store(&err)
		return nil, err
	}
	return &uploadReader{r, u}, nil
}

type uploadReader struct {
	io.ReadCloser
	u *upload
}

func (r *uploadReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.u.failed.Store(&err)
	}
	return n, err
}
