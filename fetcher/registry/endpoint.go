package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/registry/credential"
	"github.com/berth-dev/berth/fetcher/registry/hosts"
)

// dockerServer is where the registry docker.io is.
const dockerServer = "registry-1.docker.io"

// endpoint is one host that has the content of a registry.
type endpoint struct {
	client  *Client
	http    *http.Client
	auth    *authorizer
	close   func()
	name    string // for messages and for the memory of what is down
	host    string
	path    string // of the repository, such as /v2/org/app
	ns      string // the registry whose content is wanted, if this is another one
	can     hosts.Capability
	from    string        // the file that tells of it
	server  bool          // not a mirror
	patient time.Duration // how long it may take to answer while others can be asked

	mu      sync.Mutex
	schemes []string // one, once it is known
}

// newEndpoint prepares to speak with h for one repository.
func (c *Client) newEndpoint(h *hosts.Host, t target) (*endpoint, error) {
	if err := c.mayUse(h); err != nil {
		return nil, err
	}
	u := h.URL
	if u == nil {
		u = &url.URL{Scheme: "", Host: t.registry, Path: "/v2"}
	}
	e := &endpoint{client: c, host: u.Host, path: u.Path, can: h.Can, from: h.From}
	if credential.Hostname(e.host) == "docker.io" {
		e.host = dockerServer
	}
	switch {
	case u.Scheme == "" && c.plain(e.host):
		e.schemes = []string{"https", "http"}
	case u.Scheme == "http" && h.TLS(): // as containerd: with settings for TLS it is tried
		e.schemes = []string{"https", "http"}
	case u.Scheme == "http":
		e.schemes = []string{"http"}
	default:
		e.schemes = []string{"https"}
	}
	e.name = e.schemes[0] + "://" + e.host + e.path
	if t.repository != "" {
		e.path += "/" + t.repository
	}
	if credential.Hostname(e.host) != credential.Hostname(t.registry) {
		e.ns = t.registry
	}
	if e.patient = h.DialTimeout; e.patient == 0 {
		e.patient = c.o.MirrorTimeout
	}
	rt, closeIdle, err := c.transports(h, c.insecure(e.host), e.own)
	if err != nil {
		return nil, err
	}
	e.close = closeIdle
	plain := func(host string) bool {
		return c.plain(host) || host == e.host && slices.Contains(e.candidates(), "http")
	}
	e.auth = &authorizer{
		next: &guard{next: rt, plain: plain}, own: e.own, plain: plain, header: h.Header, scope: t.scope(),
		memory: &c.memory, account: account{registry: t.registry},
		find: func(ctx context.Context) (authn.AuthConfig, error, error) { return c.credentials(ctx, e.host, t) },
	}
	if t.auth != nil {
		e.auth.account.auth, e.auth.account.given = *t.auth, true
	}
	given, _, err := credential.ForPull(t.auth, t.registry, e.host)
	if err != nil {
		return nil, err
	}
	e.auth.token = given.RegistryToken
	e.http = &http.Client{Transport: e.auth}
	return e, nil
}

// credentials finds what to show to a host: those of the pull, or else those of
// the files. A pull that says that it has none for its registry gets none there.
func (c *Client) credentials(ctx context.Context, host string, t target) (_ authn.AuthConfig, trouble, err error) {
	if a, ok, err := credential.ForPull(t.auth, t.registry, host); ok || err != nil {
		return a, nil, err
	}
	return c.o.Credentials.Find(ctx, host, t.repository)
}

func (e *endpoint) candidates() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.schemes
}

func (e *endpoint) settle(scheme string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.schemes = []string{scheme}
}

// own says whether a URL is the endpoint's.
func (e *endpoint) own(u *url.URL) bool {
	return u.Host == e.host && slices.Contains(e.candidates(), u.Scheme)
}

// get requests path below the repository. limit bounds the time until the
// headers are there; 0 is the transport's.
func (e *endpoint) get(ctx context.Context, what, path string, header http.Header, limit time.Duration) (*http.Response, error) {
	return e.ask(ctx, what, path, nil, header, limit)
}

// ask is get with a query, which may be nil.
func (e *endpoint) ask(ctx context.Context, what, path string, query url.Values, header http.Header, limit time.Duration) (*http.Response, error) {
	schemes := e.candidates()
	var err error
	for i, scheme := range schemes {
		u := url.URL{Scheme: scheme, Host: e.host, Path: e.path + path}
		if e.ns != "" {
			query = maps.Clone(query)
			if query == nil {
				query = url.Values{}
			}
			query.Set("ns", e.ns)
		}
		u.RawQuery = query.Encode()
		var resp *http.Response
		if resp, err = e.send(ctx, &u, header, limit); err == nil {
			if len(schemes) > 1 {
				e.settle(scheme)
			}
			return resp, nil
		}
		if i == len(schemes)-1 || !otherScheme(err) {
			break
		}
	}
	return nil, explain(ctx, what, err)
}

// otherScheme says whether an error over TLS makes plain HTTP worth trying: there
// is no TLS, and not a wrong certificate or nobody at all.
func otherScheme(err error) bool {
	var ne net.Error
	var cert *tls.CertificateVerificationError
	var slow *errSlow
	switch {
	case errors.As(err, &cert), errors.As(err, &slow), errors.As(err, &ne) && ne.Timeout():
		return false
	}
	return !errors.Is(err, context.Canceled) && !errors.Is(err, containerizer.ErrPermission)
}

// errSlow is an answer that did not come in the time that a mirror has.
type errSlow struct {
	after     time.Duration
	connected bool
}

func (e *errSlow) Error() string {
	if !e.connected {
		return fmt.Sprintf("no connection within %v", e.after)
	}
	return fmt.Sprintf("no answer within %v", e.after)
}

// send sends one request. Its context ends with the response's body.
func (e *endpoint) send(ctx context.Context, u *url.URL, header http.Header, limit time.Duration) (*http.Response, error) {
	var connected atomic.Bool
	rctx, cancel := context.WithCancelCause(ctx)
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(rctx, trace), http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	maps.Copy(req.Header, header)
	req.Header.Set("User-Agent", e.client.o.UserAgent)
	var late *time.Timer
	if limit > 0 {
		late = time.AfterFunc(limit, func() { cancel(&errSlow{after: limit, connected: connected.Load()}) })
	}
	resp, err := e.http.Do(req)
	if late != nil && !late.Stop() && ctx.Err() == nil {
		if err == nil {
			_ = resp.Body.Close() // the context has ended under it
		}
		err = context.Cause(rctx)
	}
	if err != nil {
		cancel(nil)
		return nil, err
	}
	resp.Body = &cancelBody{resp.Body, cancel}
	return resp, nil
}

// cancelBody gives up a request with its body.
type cancelBody struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

// Close closes the body.
func (b *cancelBody) Close() error {
	b.cancel(nil)
	return b.ReadCloser.Close()
}

func (e *endpoint) String() string { return strings.TrimSuffix(e.name, "/v2") }
