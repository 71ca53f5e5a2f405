package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync/atomic"

	"google.golang.org/grpc/credentials"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
)

// remotes serves other machines. Its certificates may be replaced while it does; who is
// connected stays so.
type remotes struct {
	readOnly bool
	listener net.Listener
	// tls is nil for what needs none.
	tls atomic.Pointer[material]
}

// material is what files of certificates held when they were last read.
type material struct {
	credentials credentials.TransportCredentials
	content     [3]string // of the files, to tell whether they have changed
	names       []string
}

// newRemotes returns what serves c. Errors: ErrInvalid for certificates that cannot be
// used.
func newRemotes(c *config.TCP) (*remotes, error) {
	r := &remotes{readOnly: c.ReadOnly}
	if c.Insecure {
		return r, nil
	}
	_, err := r.load(c)
	return r, err
}

// load reads the certificates again, and says whether they are others. After an error
// those that were in force are.
func (r *remotes) load(c *config.TCP) (changed bool, err error) {
	next := &material{names: c.ClientNames}
	for i, path := range []string{c.Cert, c.Key, c.ClientCA} {
		b, err := os.ReadFile(path)
		if err != nil {
			return false, fmt.Errorf("certificates of tcp %q: %w", c.Address, err)
		}
		next.content[i] = string(b)
	}
	pair, err := tls.X509KeyPair([]byte(next.content[0]), []byte(next.content[1]))
	if err != nil {
		return false, fmt.Errorf("certificate %q with key %q: %w: %w", c.Cert, c.Key, err, containerizer.ErrInvalid)
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM([]byte(next.content[2])) {
		return false, fmt.Errorf("no certificate is in %q: %w", c.ClientCA, containerizer.ErrInvalid)
	}
	next.credentials = credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authorities,
		SessionTicketsDisabled: true, // each connection is judged by what is in force then
		VerifyConnection:       next.admit,
	})
	last := r.tls.Swap(next)
	return last == nil || last.content != next.content || !slices.Equal(last.names, next.names), nil
}

// admit refuses clients whose certificate is good and names nobody that may connect.
func (m *material) admit(s tls.ConnectionState) error {
	if len(m.names) == 0 {
		return nil
	}
	names := namesOf(s.PeerCertificates[0])
	if !slices.ContainsFunc(names, func(n string) bool { return slices.Contains(m.names, n) }) {
		return fmt.Errorf("a certificate for %q: none of them may connect", names)
	}
	return nil
}

func namesOf(c *x509.Certificate) []string {
	names := slices.Concat([]string{c.Subject.CommonName}, c.DNSNames, c.EmailAddresses)
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	return names
}

// handshake finds out who connects.
func (r *remotes) handshake(c net.Conn) (net.Conn, caller, error) {
	who := caller{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}, readOnly: r.readOnly}
	m := r.tls.Load()
	if m == nil {
		return c, who, nil
	}
	conn, info, err := m.credentials.ServerHandshake(c)
	if err != nil {
		return nil, who, err
	}
	t, is := info.(credentials.TLSInfo)
	if !is || len(t.State.PeerCertificates) == 0 {
		return nil, who, errors.Join(errors.New("a client without certificate"), conn.Close())
	}
	who.CommonAuthInfo = t.CommonAuthInfo
	who.name = t.State.PeerCertificates[0].Subject.CommonName
	return conn, who, nil
}

// listenRemote opens the port of the configuration, if it has one.
func (d *Daemon) listenRemote(ctx context.Context) error {
	c := &d.o.Config.TCP
	if c.Address == "" {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Address)
	if err != nil {
		return fmt.Errorf("listen on tcp %q: %w", c.Address, err)
	}
	d.remotes.listener = l
	if c.Insecure {
		d.o.Log.Warn("every process of this machine may use a port", log.String("address", l.Addr().String()), log.String("read_only", fmt.Sprint(c.ReadOnly)))
	}
	return nil
}
