package ftp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jlaffaye/ftp"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/uri"
	"github.com/berth-dev/berth/fetcher/uri/http"
)

// Options of the scheme. The zero value works.
type Options struct {
	// Roots verify servers of ftps; nil are the node's.
	Roots *x509.CertPool
}

// Scheme reads over FTP.
type Scheme struct{ o Options }

var _ uri.Scheme = (*Scheme)(nil)

// New returns the scheme. It does no I/O.
func New(o Options) *Scheme { return &Scheme{o} }

// Names implements [uri.Scheme].
func (*Scheme) Names() []string { return []string{"ftp", "ftps"} }

// Open implements [uri.Scheme].
func (s *Scheme) Open(ctx context.Context, r uri.Request) (*uri.Response, error) {
	what := fmt.Sprintf("fetch %q", r.Reference)
	x := &transfer{what: what, ctx: ctx}
	// The library knows no contexts beyond the first connection.
	x.stop = context.AfterFunc(ctx, x.abort)
	resp, err := s.open(x, r)
	if err != nil || resp.NotModified {
		x.end()
	}
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	return resp, err
}

func (s *Scheme) open(x *transfer, r uri.Request) (*uri.Response, error) {
	if err := x.connect(s.o, r.URL); err != nil {
		return nil, x.explain(err)
	}
	path := strings.TrimPrefix(r.URL.Path, "/")
	resp := &uri.Response{Size: -1}
	if n, err := x.server.FileSize(path); err == nil && n >= 0 {
		resp.Size = n
		if t, err := x.server.GetTime(path); err == nil {
			resp.Version = fmt.Sprintf("%d %s", n, t.Format(time.RFC3339Nano))
		}
	}
	if resp.Version != "" && resp.Version == r.Version {
		if r.Offset == 0 {
			return &uri.Response{NotModified: true}, nil
		}
		resp.Offset = min(r.Offset, resp.Size)
	}
	if resp.Offset != r.Offset {
		resp.Offset = 0
	}
	data, err := x.server.RetrFrom(path, uint64(resp.Offset))
	if err != nil && resp.Offset > 0 && x.ctx.Err() == nil { // REST is not everybody's
		resp.Offset = 0
		data, err = x.server.RetrFrom(path, 0)
	}
	if err != nil {
		return nil, x.explain(err)
	}
	x.data, resp.Body = data, x
	return resp, nil
}

// transfer is a login and one file.
type transfer struct {
	what   string
	ctx    context.Context //nolint:containedctx // the reader's life is one call's
	stop   func() bool
	server *ftp.ServerConn
	data   *ftp.Response

	mu      sync.Mutex
	conns   []net.Conn
	aborted bool
}

// connect logs in.
func (x *transfer) connect(o Options, u *url.URL) (err error) {
	host, port, secure := u.Hostname(), u.Port(), u.Scheme == "ftps"
	config := &tls.Config{ServerName: host, RootCAs: o.Roots, ClientSessionCache: tls.NewLRUClientSessionCache(0), MinVersion: tls.VersionTLS12}
	options := []ftp.DialOption{ftp.DialWithShutTimeout(30 * time.Second)}
	if port == "" {
		port = "21"
		if secure {
			port = "990"
		}
	}
	if secure {
		options = append(options, ftp.DialWithTLS(config))
	} else {
		config = nil
	}
	options = append(options, ftp.DialWithDialFunc(func(network, address string) (net.Conn, error) {
		return x.dial(network, address, config)
	}))
	if x.server, err = ftp.Dial(net.JoinHostPort(host, port), options...); err != nil {
		return err
	}
	user, password := "anonymous", "anonymous"
	if u.User != nil {
		user = u.User.Username()
		password, _ = u.User.Password()
	}
	return x.server.Login(user, password)
}

// dial makes a connection that ends with the transfer.
func (x *transfer) dial(network, address string, config *tls.Config) (net.Conn, error) {
	conn, err := http.Dial(x.ctx, network, address)
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	x.conns = append(x.conns, conn)
	aborted := x.aborted
	x.mu.Unlock()
	if aborted {
		return nil, errors.Join(context.Cause(x.ctx), conn.Close())
	}
	if config != nil {
		return tls.Client(conn, config), nil
	}
	return conn, nil
}

func (x *transfer) abort() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.aborted = true
	for _, c := range x.conns {
		_ = c.Close() // nothing of it is wanted any more
	}
}

// end ends the session without waiting for the server's farewell.
func (x *transfer) end() {
	x.stop()
	x.abort()
}

// Read reads the file. At its end the server has to confirm that it was all.
func (x *transfer) Read(p []byte) (int, error) {
	n, err := x.data.Read(p)
	if errors.Is(err, io.EOF) {
		if cerr := x.data.Close(); cerr != nil {
			return n, uri.Broken(x.what, cerr)
		}
	}
	return n, err
}

// Close ends the session.
func (x *transfer) Close() error {
	x.end()
	return nil
}

// explain classes an error of the protocol.
func (x *transfer) explain(err error) error {
	var cert *tls.CertificateVerificationError
	var dns *net.DNSError
	if answer, ok := errors.AsType[*textproto.Error](err); ok {
		text := fmt.Sprintf("%s: the server answers %d (%.100q)", x.what, answer.Code, answer.Msg)
		switch {
		case answer.Code == ftp.StatusFileUnavailable:
			return fmt.Errorf("%s: %w", text, containerizer.ErrNotFound)
		case answer.Code == ftp.StatusNotLoggedIn, answer.Code == ftp.StatusLoginNeedAccount:
			return fmt.Errorf("%s: %w", text, containerizer.ErrPermission)
		case answer.Code < 500:
			return &uri.Temporary{Err: fmt.Errorf("%s: %w", text, containerizer.ErrUnavailable)}
		}
		return fmt.Errorf("%s: %w", text, containerizer.ErrUnavailable)
	}
	switch {
	case errors.Is(err, containerizer.ErrPermission):
		return fmt.Errorf("%s: %w", x.what, err)
	case errors.Is(err, syscall.ECONNREFUSED), errors.As(err, &dns) && dns.IsNotFound, errors.As(err, &cert):
		return fmt.Errorf("%s: %w: %w", x.what, err, containerizer.ErrUnavailable)
	}
	return uri.Broken(x.what, err)
}
