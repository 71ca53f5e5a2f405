package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
)

// TCP says whether berthd serves its API to other machines. Without an address it does
// not.
type TCP struct {
	// Address is "HOST:PORT" or ":PORT".
	Address string `toml:"address"`
	// Cert and Key are the server's certificate, with its chain, and its key; ClientCA
	// are the authorities that clients' certificates have to be from. All are paths of PEM
	// files.
	Cert     string `toml:"cert"`
	Key      string `toml:"key"`
	ClientCA string `toml:"client_ca"`
	// ClientNames are those that may connect: a common name, or a DNS name, URI or address
	// of e-mail in the certificate; empty is every client with a certificate of ClientCA.
	ClientNames []string `toml:"client_names"`
	// ReadOnly serves only what changes nothing.
	ReadOnly bool `toml:"read_only"`
	// Insecure does without TLS, on a loopback address only: every process of this
	// machine is as good as root then, unless ReadOnly.
	Insecure bool `toml:"insecure"`
}

func (t *TCP) check() error {
	if t.Address == "" {
		if t.Cert != "" || t.Key != "" || t.ClientCA != "" || len(t.ClientNames) > 0 || t.ReadOnly || t.Insecure {
			return errors.New("[tcp] means nothing without tcp.address")
		}
		return nil
	}
	host, port, err := net.SplitHostPort(t.Address)
	if err != nil || port == "" {
		return fmt.Errorf("tcp.address = %q is not HOST:PORT", t.Address)
	}
	if t.Insecure {
		switch a, err := netip.ParseAddr(host); {
		case err != nil || !a.IsLoopback():
			return fmt.Errorf("tcp.insecure: %q is no loopback address (127.0.0.1 or ::1); other machines need TLS", host)
		case t.Cert != "" || t.Key != "" || t.ClientCA != "" || len(t.ClientNames) > 0:
			return errors.New("tcp.insecure contradicts tcp.cert, tcp.key, tcp.client_ca and tcp.client_names")
		}
		return nil
	}
	for _, p := range []struct{ key, path string }{{"cert", t.Cert}, {"key", t.Key}, {"client_ca", t.ClientCA}} {
		if !filepath.IsAbs(p.path) {
			return fmt.Errorf("tcp.%s = %q is not an absolute path; serving over TCP needs a certificate, its key, and the authority of clients", p.key, p.path)
		}
	}
	return nil
}

// Client says which daemon commands use, and how.
type Client struct {
	// Host is "unix:///PATH", "tcp://HOST:PORT" or "none"; "" is the daemon that listens
	// in the state directory, if one does. --host and BERTH_HOST come first.
	Host string `toml:"host"`
	// TLSCA are the authorities that a daemon's certificate has to be from, TLSCert and
	// TLSKey are ours: paths of PEM files.
	TLSCA   string `toml:"tls_ca"`
	TLSCert string `toml:"tls_cert"`
	TLSKey  string `toml:"tls_key"`
}
