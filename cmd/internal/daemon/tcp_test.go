package daemon_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/client"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  []byte
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t}
	a.key = newKey(t)
	a.cert, a.pem = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, &a.key.PublicKey, time.Hour)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) sign(c *x509.Certificate, public *ecdsa.PublicKey, valid time.Duration) (*x509.Certificate, []byte) {
	a.t.Helper()
	var err error
	if c.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		a.t.Fatal(err)
	}
	c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(valid)
	parent := a.cert
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// pair writes a certificate and its key to dir.
func (a *authority) pair(dir, name string, valid time.Duration) (cert, key string) {
	a.t.Helper()
	k := newKey(a.t)
	_, b := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{name + ".example"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, &k.PublicKey, valid)
	der, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	for path, content := range map[string][]byte{cert: b, key: pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return cert, key
}

func (a *authority) file(dir, name string) string {
	a.t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, a.pem, 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// freePort is an address that nobody listens at, as far as one can tell.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // it has served
	return l.Addr().String()
}

// ask asks the daemon at address for facts, with the certificate of who, if any, and
// trusting the authority of the server; and asks it to reload.
func ask(t *testing.T, address string, trusted *authority, who ...string) (read, change error) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(trusted.cert)
	c := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	if len(who) == 2 {
		pair, err := tls.LoadX509KeyPair(who[0], who[1])
		if err != nil {
			t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	over, err := client.New("dns:///"+address, credentials.NewTLS(c))
	if err != nil {
		t.Fatal(err)
	}
	defer over.Close() //nolint:errcheck // it has served
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, read = over.Info(ctx)
	if read == nil {
		_, _, change = over.Reload(ctx)
	}
	return read, change
}

func TestTCP(t *testing.T) {
	dir := t.TempDir()
	ours, others := newAuthority(t, "ours"), newAuthority(t, "others")
	cert, key := ours.pair(dir, "server", time.Hour)
	good, goodKey := ours.pair(dir, "operator", time.Hour)
	other, otherKey := ours.pair(dir, "stranger", time.Hour)
	old, oldKey := ours.pair(dir, "expired", -time.Hour)
	wrong, wrongKey := others.pair(dir, "operator2", time.Hour)
	address := freePort(t)
	l := serveLive(t, "", setup{config: func(c *config.Config) {
		c.TCP = config.TCP{Address: address, Cert: cert, Key: key, ClientCA: ours.file(dir, "ca.pem"), ClientNames: []string{"operator.example"}}
	}})

	if read, change := ask(t, address, ours, good, goodKey); read != nil || change != nil {
		t.Errorf("a good client: %v, %v", read, change)
	}
	for name, who := range map[string][]string{
		"no certificate": nil, "another authority's": {wrong, wrongKey}, "an expired one": {old, oldKey}, "a name that may not": {other, otherKey},
	} {
		if read, _ := ask(t, address, ours, who...); !errors.Is(read, containerizer.ErrUnavailable) {
			t.Errorf("a client with %s: %v, want that it is turned away", name, read)
		}
	}

	// Other certificates, at the same paths, and other clients.
	next := newAuthority(t, "next")
	next.pair(dir, "server", time.Hour)
	next.file(dir, "ca.pem")
	fresh, freshKey := next.pair(dir, "another", time.Hour)
	applied, restart, err := l.reload(func(c *config.Config) { c.TCP.ClientNames = []string{"another"} })
	if err != nil || !slices.Equal(applied, []string{"tcp certificates", "tcp.client_names"}) || len(restart) > 0 {
		t.Errorf("Reload = %q, %q, %v", applied, restart, err)
	}
	if read, _ := ask(t, address, next, fresh, freshKey); read != nil {
		t.Errorf("a client of the new authority: %v", read)
	}
	if read, _ := ask(t, address, next, good, goodKey); read == nil {
		t.Error("a client of the old authority is still served")
	}
	// What cannot be used changes nothing.
	if err := os.WriteFile(cert, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.reload(func(*config.Config) {}); !errors.Is(err, containerizer.ErrInvalid) {
		t.Errorf("Reload of nonsense = %v", err)
	}
	if read, _ := ask(t, address, next, fresh, freshKey); read != nil {
		t.Errorf("after a failed reload: %v", read)
	}
}

func TestTCPReadOnly(t *testing.T) {
	dir := t.TempDir()
	ours := newAuthority(t, "ours")
	cert, key := ours.pair(dir, "server", time.Hour)
	good, goodKey := ours.pair(dir, "monitoring", time.Hour)
	address := freePort(t)
	serveLive(t, "", setup{config: func(c *config.Config) {
		c.TCP = config.TCP{Address: address, Cert: cert, Key: key, ClientCA: ours.file(dir, "ca.pem"), ReadOnly: true}
	}})
	read, change := ask(t, address, ours, good, goodKey)
	if read != nil || change == nil || !strings.Contains(change.Error(), "for reading") {
		t.Errorf("a client of a port for reading: %v, %v", read, change)
	}
}

// TestTCPLoopback: without TLS, where that was asked for.
func TestTCPLoopback(t *testing.T) {
	address := freePort(t)
	serveLive(t, "", setup{config: func(c *config.Config) { c.TCP = config.TCP{Address: address, Insecure: true, ReadOnly: true} }})
	c, err := client.New("dns:///"+address, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // it has served
	if _, err := c.Info(t.Context()); err != nil {
		t.Errorf("Info = %v", err)
	}
	if _, _, err := c.Reload(t.Context()); err == nil {
		t.Error("a port for reading reloads")
	}
}

// TestConnections: a peer has so many connections and no more, and others have theirs.
func TestConnections(t *testing.T) {
	address := freePort(t)
	serveLive(t, "", setup{config: func(c *config.Config) { c.TCP = config.TCP{Address: address, Insecure: true} }})
	const more = 300
	refused := 0
	for range more {
		c, err := net.Dial("tcp", address) //nolint:noctx // at once
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close() //nolint:errcheck // it has served
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		// A server of HTTP/2 that takes us begins with its settings.
		if _, err := c.Read(make([]byte, 1)); err != nil {
			refused++
		}
	}
	if refused < more/10 || refused > more/4 {
		t.Errorf("%d of %d connections were refused", refused, more)
	}
}
