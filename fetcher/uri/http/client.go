package http

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

const maxRedirects = 10

// Options of a client. The zero value works.
type Options struct {
	// UserAgent is sent with each request; "" is "berth".
	UserAgent string
	// Transport replaces the transport, for tests.
	Transport http.RoundTripper
	// NoRedirects makes redirects the caller's to act on.
	NoRedirects bool
}

// Client sends requests within the rules of this package.
type Client struct {
	o    Options
	once sync.Once
	http *http.Client
}

// NewClient returns a client. It does no I/O.
func NewClient(o Options) *Client {
	if o.UserAgent == "" {
		o.UserAgent = "berth"
	}
	return &Client{o: o}
}

func (c *Client) setup() {
	rt := c.o.Transport
	if rt == nil {
		rt = newTransport()
	}
	c.http = &http.Client{Transport: guard{rt}, CheckRedirect: checkRedirect}
	if c.o.NoRedirects {
		c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
}

// newTransport makes a connection for each request: a download is long, and the
// checks of addresses are made where connections are.
func newTransport() *http.Transport {
	var p http.Protocols
	p.SetHTTP1(true)
	return &http.Transport{
		Protocols:             &p,
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           Dial,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: 60 * time.Second,
		DisableKeepAlives:     true,
		ReadBufferSize:        128 << 10,
		DisableCompression:    true, // checksums are those of what is stored
	}
}

// redirected marks the context of a request that follows a redirect from a host
// that is not this node.
type redirected struct{}

// Dial connects to any address that URIs may lead to. It looks at addresses after
// names were resolved.
func Dial(ctx context.Context, network, address string) (net.Conn, error) {
	elsewhere := ctx.Value(redirected{}) != nil
	d := &net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return nil //nolint:nilerr // not an IP address
		}
		if elsewhere && (ap.Addr().Unmap().IsLoopback() || ap.Addr().IsUnspecified()) {
			return fmt.Errorf("a redirect to the address %s of this node is not allowed: %w", ap.Addr(), containerizer.ErrPermission)
		}
		return checkAddr(ap.Addr())
	}}
	return d.DialContext(ctx, network, address)
}

// checkAddr refuses where metadata services are: link-local addresses, and the one
// of Amazon in IPv6.
func checkAddr(a netip.Addr) error {
	if a = a.Unmap(); a.IsLinkLocalUnicast() || a == netip.AddrFrom16([16]byte{0xfd, 0, 0x0e, 0xc2, 14: 0x02, 15: 0x54}) {
		return fmt.Errorf("connections to the link-local address %s are not allowed: %w", a, containerizer.ErrPermission)
	}
	return nil
}

// guard checks addresses in URLs, too: a proxy would connect for us.
type guard struct{ next http.RoundTripper }

// RoundTrip passes on what is allowed.
func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if a, err := netip.ParseAddr(r.URL.Hostname()); err == nil {
		if err := checkAddr(a.WithZone("")); err != nil {
			return nil, err
		}
	}
	return g.next.RoundTrip(r)
}

func checkRedirect(r *http.Request, via []*http.Request) error {
	first := via[0].URL
	switch {
	case len(via) >= maxRedirects:
		return fmt.Errorf("more than %d redirects: %w", maxRedirects, containerizer.ErrUnavailable)
	case r.URL.Scheme != "http" && r.URL.Scheme != "https":
		return fmt.Errorf("a redirect to the scheme %.20q is not allowed: %w", r.URL.Scheme, containerizer.ErrPermission)
	case via[len(via)-1].URL.Scheme == "https" && r.URL.Scheme == "http":
		return fmt.Errorf("a redirect from https to plain http (host %q) is not allowed: %w", r.URL.Host, containerizer.ErrPermission)
	case loopback(r.URL.Hostname()) && !loopback(first.Hostname()):
		return fmt.Errorf("a redirect to the address %q of this node is not allowed: %w", r.URL.Host, containerizer.ErrPermission)
	}
	r.Header.Del("Referer")
	if !loopback(first.Hostname()) {
		*r = *r.WithContext(context.WithValue(r.Context(), redirected{}, true))
	}
	return nil
}

func loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && (a.Unmap().IsLoopback() || a.IsUnspecified())
}

// Do sends a request. Errors hold no URL.
func (c *Client) Do(r *http.Request) (*http.Response, error) {
	c.once.Do(c.setup)
	r.Header.Set("User-Agent", c.o.UserAgent)
	resp, err := c.http.Do(r)
	if u, ok := errors.AsType[*url.Error](err); ok { // its text has the URL, with its secrets
		err = u.Err
	}
	return resp, err
}
