package hosts

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// Certificates reads the files: roots to trust (nil is the system's), and
// certificates to show.
func (h *Host) Certificates() (roots *x509.CertPool, client []tls.Certificate, err error) {
	if len(h.CA) > 0 {
		if roots, err = x509.SystemCertPool(); err != nil {
			return nil, nil, fmt.Errorf("read the system's certificates: %w", err)
		}
	}
	for _, path := range h.CA {
		pem, err := readFile(path)
		if err != nil {
			return nil, nil, fmt.Errorf("%q: ca: %w", h.From, classed(err))
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, nil, fmt.Errorf("%q: ca: %w", h.From, classed(fmt.Errorf("%q holds no certificate in PEM form", path)))
		}
	}
	for _, pair := range h.Client {
		c, err := loadPair(pair)
		if err != nil {
			return nil, nil, fmt.Errorf("%q: client: %w", h.From, classed(err))
		}
		client = append(client, c)
	}
	return roots, client, nil
}

func loadPair(pair [2]string) (tls.Certificate, error) {
	cert, err := readFile(pair[0])
	if err != nil {
		return tls.Certificate{}, err
	}
	key := cert
	if pair[1] != "" {
		if key, err = os.ReadFile(pair[1]); err != nil {
			return tls.Certificate{}, err
		}
	}
	c, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate %q: %w", pair[0], err)
	}
	return c, nil
}
