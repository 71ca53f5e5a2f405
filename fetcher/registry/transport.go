package registry

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/registry/hosts"
)

const (
	// dialTimeout is for hosts without a configured one.
	dialTimeout = 15 * time.Second
	// mirrorTimeout is how long a mirror may take to answer before the next host is
	// asked.
	mirrorTimeout = 5 * time.Second
)

// newTransport speaks HTTP/1.1 only: with HTTP/2 all layers would share one TCP
// connection, which fills no line (golang/go 37373).
func newTransport(dial time.Duration) *http.Transport {
	var p http.Protocols
	p.SetHTTP1(true)
	if dial == 0 {
		dial = dialTimeout
	}
	d := &net.Dialer{Timeout: dial, KeepAlive: 30 * time.Second, Control: refuseLinkLocal}
	return &http.Transport{
		Protocols:              &p,
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            d.DialContext,
		TLSHandshakeTimeout:    15 * time.Second,
		ResponseHeaderTimeout:  60 * time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		IdleConnTimeout:        30 * time.Second,
		MaxIdleConnsPerHost:    16,
		ReadBufferSize:         128 << 10,
		DisableCompression:     true, // blobs are compared with digests of what was stored
	}
}

// refuseLinkLocal keeps redirects away from metadata services. It acts after
// names were resolved.
func refuseLinkLocal(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil //nolint:nilerr // not an IP address
	}
	return checkAddress(ap.Addr())
}

func checkAddress(a netip.Addr) error {
	if a.Unmap().IsLinkLocalUnicast() {
		return fmt.Errorf("connections to the link-local address %s are not allowed: %w", a, containerizer.ErrPermission)
	}
	return nil
}

// guard refuses plain HTTP, also after a redirect, but to hosts that may have it.
type guard struct {
	next  http.RoundTripper
	plain func(host string) bool
}

// RoundTrip passes on what is allowed.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && (r.URL.Scheme != "http" || !g.plain(r.URL.Host)) {
		return nil, fmt.Errorf("plain HTTP to %q is not allowed (it would have to be configured, as http://… in a hosts.toml or as an insecure registry): %w", r.URL.Host, containerizer.ErrPermission)
	}
	if a, err := netip.ParseAddr(r.URL.Hostname()); err == nil { // a proxy would do what our dialer does not
		if err := checkAddress(a); err != nil {
			return nil, err
		}
	}
	return g.next.RoundTrip(r)
}

// insecure says whether a host is listed among insecure ones.
func insecure(list []string, hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	return slices.Contains(list, hostport) || slices.Contains(list, host)
}

func loopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && a.IsLoopback()
}

// shown has certificates of ours to show to one host, and to no other one.
type shown struct {
	own  func(*url.URL) bool
	with http.RoundTripper
	bare http.RoundTripper
}

// RoundTrip chooses.
func (s *shown) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.own(r.URL) {
		return s.with.RoundTrip(r)
	}
	return s.bare.RoundTrip(r)
}

// transports makes what a host is reached over. close gives up its connections.
func (c *Client) transports(h *hosts.Host, skipVerify bool, own func(*url.URL) bool) (_ http.RoundTripper, closeIdle func(), err error) { //nolint:revive // a setting, with its meaning
	if c.o.Transport != nil || !h.TLS() && !skipVerify && h.DialTimeout == 0 {
		return c.base, func() {}, nil
	}
	roots, client, err := h.Certificates()
	if err != nil {
		return nil, nil, err
	}
	bare := newTransport(h.DialTimeout)
	bare.TLSClientConfig = &tls.Config{RootCAs: roots, InsecureSkipVerify: skipVerify || h.SkipVerify && c.o.TLSVerify != TLSVerified} //nolint:gosec // as configured
	if len(client) == 0 {
		return bare, bare.CloseIdleConnections, nil
	}
	with := newTransport(h.DialTimeout)
	with.TLSClientConfig = bare.TLSClientConfig.Clone()
	with.TLSClientConfig.Certificates = client
	return &shown{own: own, with: with, bare: bare}, func() { bare.CloseIdleConnections(); with.CloseIdleConnections() }, nil
}
