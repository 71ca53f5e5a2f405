package registry

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/reference"
	"github.com/berth-dev/berth/fetcher/registry/credential"
	"github.com/berth-dev/berth/fetcher/registry/hosts"
)

// Credentials finds credentials for a repository of a registry; empty ones are
// none. trouble is why there may be some all the same.
type Credentials interface {
	Find(ctx context.Context, registry, repository string) (_ authn.AuthConfig, trouble, err error)
}

// Options of a client. The zero value works.
type Options struct {
	// Dirs are directories in containerd's certs.d layout; nil is hosts.DefaultDirs.
	Dirs []string
	// Credentials are those of the node; nil is Docker's and Podman's files.
	Credentials Credentials
	// Insecure lists hosts ("host" or "host:port") that may be spoken to without
	// TLS, or with a certificate that cannot be verified; loopback addresses may be
	// spoken to without TLS always.
	Insecure []string
	// TLSVerify overrides Insecure and what Dirs say of TLS, for all hosts.
	TLSVerify TLSVerify
	// UserAgent is sent with each request; "" is "berth".
	UserAgent string
	// Transport replaces the HTTP transport, for tests.
	Transport http.RoundTripper
	// Retries is how often a request is repeated that makes no progress; 0 is 4.
	Retries int
	// Backoff is the first pause between repetitions, which doubles; 0 is 500 ms.
	Backoff time.Duration
	// Patience bounds all pauses of one request together; 0 is 5 minutes.
	Patience time.Duration
	// Stall is how long a blob may send nothing, or next to nothing, before it is
	// asked for again; 0 is 30 s.
	Stall time.Duration
	// MirrorTimeout is how long a mirror may take to answer while another host can be
	// asked, unless it has a dial_timeout; 0 is 5 s.
	MirrorTimeout time.Duration
}

// TLSVerify says whether hosts are spoken to with TLS, and their certificates
// verified.
type TLSVerify uint8

// What may be said of all hosts.
const (
	// TLSAsConfigured is by Insecure, the directories and loopback addresses.
	TLSAsConfigured TLSVerify = iota
	// TLSUnverified is as if all hosts were listed in Insecure. Where a scheme is
	// configured, it stays.
	TLSUnverified
	// TLSVerified wants TLS and good certificates of all hosts, loopback addresses
	// included, and refuses to use what is configured otherwise.
	TLSVerified
)

// insecure says whether a host may be without TLS, or with any certificate.
func (c *Client) insecure(hostport string) bool {
	switch c.o.TLSVerify {
	case TLSUnverified:
		return true
	case TLSVerified:
		return false
	case TLSAsConfigured:
	}
	return insecure(c.o.Insecure, hostport)
}

// plain says whether a host may be spoken to without TLS, as far as its name tells.
func (c *Client) plain(hostport string) bool {
	return c.insecure(hostport) || c.o.TLSVerify != TLSVerified && loopback(hostport)
}

// mayUse refuses a host that is configured for plain HTTP where that must not be.
func (c *Client) mayUse(h *hosts.Host) error {
	if c.o.TLSVerify == TLSVerified && h.URL != nil && h.URL.Scheme == "http" {
		return fmt.Errorf("%q says %q, and certificates are to be verified (--tls-verify): %w", h.From, h.URL, containerizer.ErrPermission)
	}
	return nil
}

// Client connects to registries.
type Client struct {
	o    Options
	once sync.Once
	base http.RoundTripper
	// memory is of what hosts wanted to see.
	memory memory

	mu   sync.Mutex
	down map[string]outage // endpoint -> what is wrong there
}

// New returns a client. It does no I/O.
func New(o Options) *Client {
	if o.UserAgent == "" {
		o.UserAgent = "berth"
	}
	if o.Retries == 0 {
		o.Retries = 4
	}
	for _, d := range []struct {
		value *time.Duration
		zero  time.Duration
	}{
		{&o.Backoff, 500 * time.Millisecond}, {&o.Patience, 5 * time.Minute}, {&o.Stall, 30 * time.Second}, {&o.MirrorTimeout, mirrorTimeout},
	} {
		if *d.value == 0 {
			*d.value = d.zero
		}
	}
	return &Client{o: o, down: map[string]outage{}}
}

// setup makes the transport on first use, and finds the files of this user.
func (c *Client) setup() {
	c.base = c.o.Transport
	if c.base == nil {
		c.base = newTransport(0)
	}
	if c.o.Credentials == nil {
		c.o.Credentials = credential.Files{Paths: credential.DefaultPaths()}
	}
	if c.o.Dirs == nil {
		c.o.Dirs = hosts.DefaultDirs()
	}
}

// target is what is wanted of a registry, and with whose credentials.
type target struct {
	registry, repository string
	auth                 *containerizer.RegistryAuth
}

// scope is what a token is asked for.
func (t target) scope() string {
	if t.repository == "" {
		return ""
	}
	return "repository:" + t.repository + ":pull"
}

// Connect prepares for fetching r: it reads how the registry is reached, each
// time anew. auth may be nil.
func (c *Client) Connect(_ context.Context, r reference.Reference, auth *containerizer.RegistryAuth) (*Origin, error) {
	c.once.Do(c.setup)
	o := &Origin{client: c, ref: r}
	endpoints, err := c.endpoints(target{r.Domain, r.Repository, auth})
	if err != nil {
		return nil, fmt.Errorf("registry %q of image %q: %w", r.Domain, r, err)
	}
	o.endpoints = endpoints
	return o, nil
}

// endpoints are the hosts of a registry; the last one is its server.
func (c *Client) endpoints(t target) ([]*endpoint, error) {
	all, err := hosts.Load(c.o.Dirs, t.registry)
	if err != nil {
		return nil, err
	}
	out := make([]*endpoint, len(all))
	for i := range all {
		if out[i], err = c.newEndpoint(&all[i], t); err != nil {
			return nil, err
		}
	}
	out[len(out)-1].server = true
	return out, nil
}

// Login checks that a registry's server accepts credentials. One that asks for
// none accepts all.
func (c *Client) Login(ctx context.Context, registry string, auth containerizer.RegistryAuth) error {
	c.once.Do(c.setup)
	what := fmt.Sprintf("log in to %q", registry)
	auth.ServerAddress = ""
	all, err := hosts.Load(c.o.Dirs, registry)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	h := &all[len(all)-1]
	t := target{registry: registry, auth: &auth}
	if h.URL != nil { // the registry may be configured to be elsewhere; then that is logged in to
		t.registry = h.URL.Host
	}
	e, err := c.newEndpoint(h, t)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer e.close()
	resp, err := e.get(ctx, what, "/", nil, 0)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusUnauthorized:
		return fmt.Errorf("%s: the registry does not accept these credentials: %w", what, containerizer.ErrPermission)
	}
	return statusError(what, resp)
}
