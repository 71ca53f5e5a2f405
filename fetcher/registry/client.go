package registry

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/reference"
)

// Options of a client. The zero value works.
type Options struct {
	// Keychain finds credentials; nil is Docker's and Podman's configuration files.
	Keychain authn.Keychain
	// Insecure lists hosts ("host" or "host:port") that may be spoken to without
	// TLS; loopback addresses always may.
	Insecure []string
	// UserAgent is sent with each request; "" is "berth".
	UserAgent string
	// Transport replaces the HTTP transport, for tests.
	Transport http.RoundTripper
	// Retries is how often a request is repeated that makes no progress; 0 is 4.
	Retries int
	// Backoff is the first pause between repetitions, which doubles; 0 is 500 ms.
	Backoff time.Duration
	// Stall is how long a blob may send nothing before it is asked for again; 0 is 30 s.
	Stall time.Duration
}

// Client connects to registries.
type Client struct {
	o    Options
	once sync.Once
	base http.RoundTripper
}

// New returns a client. It does no I/O.
func New(o Options) *Client {
	if o.UserAgent == "" {
		o.UserAgent = "berth"
	}
	if o.Retries == 0 {
		o.Retries = 4
	}
	if o.Backoff == 0 {
		o.Backoff = 500 * time.Millisecond
	}
	if o.Stall == 0 {
		o.Stall = 30 * time.Second
	}
	return &Client{o: o}
}

// setup makes the transport on first use.
func (c *Client) setup() {
	c.base = c.o.Transport
	if c.base == nil {
		c.base = newTransport()
	}
	c.base = &guard{next: c.base, insecure: c.o.Insecure}
	if c.o.Keychain == nil {
		c.o.Keychain = authn.DefaultKeychain
	}
}

// newTransport speaks HTTP/1.1 only: with HTTP/2 all layers would share one TCP
// connection, which fills no line (golang/go 37373).
func newTransport() *http.Transport {
	var p http.Protocols
	p.SetHTTP1(true)
	d := &net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second, Control: refuseLinkLocal}
	return &http.Transport{
		Protocols:             &p,
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           d.DialContext,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: 60 * time.Second,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConnsPerHost:   16,
		ReadBufferSize:        128 << 10,
		DisableCompression:    true, // blobs are compared with digests of what was stored
	}
}

// refuseLinkLocal keeps redirects away from metadata services. It acts after
// names were resolved.
func refuseLinkLocal(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil //nolint:nilerr // not an IP address
	}
	if ap.Addr().Unmap().IsLinkLocalUnicast() {
		return fmt.Errorf("connections to the link-local address %s are not allowed: %w", ap.Addr(), containerizer.ErrPermission)
	}
	return nil
}

// guard refuses plain HTTP, also after a redirect, but to hosts that may have it.
type guard struct {
	next     http.RoundTripper
	insecure []string
}

// RoundTrip passes on what is allowed.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !g.plain(r.URL.Host) {
		return nil, fmt.Errorf("plain HTTP to %q is not allowed (it would have to be listed as an insecure registry): %w", r.URL.Host, containerizer.ErrPermission)
	}
	return g.next.RoundTrip(r)
}

func (g *guard) plain(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	if slices.Contains(g.insecure, hostport) || slices.Contains(g.insecure, host) {
		return true
	}
	return loopback(host)
}

func loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && a.IsLoopback()
}

// Connect asks the registry how it wants to be authenticated to, and prepares
// for fetching r.
func (c *Client) Connect(ctx context.Context, r reference.Reference) (*Origin, error) {
	c.once.Do(c.setup)
	var opts []name.Option
	if (&guard{insecure: c.o.Insecure}).plain(r.Domain) {
		opts = append(opts, name.Insecure)
	}
	reg, err := name.NewRegistry(r.Domain, opts...)
	if err != nil {
		return nil, fmt.Errorf("registry %q: %w: %w", r.Domain, err, containerizer.ErrInvalid)
	}
	repo := reg.Repo(r.Repository)
	auth, err := authn.Resolve(ctx, c.o.Keychain, repo)
	if err != nil {
		return nil, fmt.Errorf("find credentials for %q: %w: %w", repo, err, containerizer.ErrPermission)
	}
	var rt http.RoundTripper
	err = c.retry(ctx, func() (err error) {
		rt, err = transport.NewWithContext(ctx, reg, auth, c.base, []string{repo.Scope(transport.PullScope)})
		if err != nil {
			return c.explain(ctx, fmt.Sprintf("connect to registry %q for %q", r.Domain, r), err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &Origin{
		client: c,
		http:   &http.Client{Transport: rt},
		// The transport puts in the scheme that the registry answered to.
		prefix: "https://" + reg.RegistryStr() + "/v2/" + repo.RepositoryStr(),
		ref:    r,
	}, nil
}
