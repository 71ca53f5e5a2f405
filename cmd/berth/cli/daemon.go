package cli

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// noHost is the host of who does without a daemon.
const noHost = "none"

const (
	schemeUnix = "unix://"
	schemeTCP  = "tcp://"
)

// TLS are the files with which a daemon of another machine is spoken to.
type TLS struct{ CA, Cert, Key string }

// Daemon returns where the daemon is that has to do the command, "unix:///PATH" or
// "tcp://HOST:PORT"; "" when none has to. Who named one gets an error when nobody
// listens there.
func (s *Settings) Daemon() (target string, err error) {
	switch {
	case strings.HasPrefix(s.Host, schemeTCP):
		if s.Here {
			return "", s.checkHere()
		}
		return s.Host, s.checkTCP()
	case s.Here || s.Host == noHost:
		return "", nil
	case s.Host == "":
		path := s.Socket(s.State)
		if !listens(path) {
			return "", nil
		}
		return schemeUnix + path, nil
	}
	path, is := strings.CutPrefix(s.Host, schemeUnix)
	if !is || !strings.HasPrefix(path, "/") {
		return "", invalidf("host %q is neither unix:///PATH, tcp://HOST:PORT nor %s", s.Host, noHost)
	}
	if !listens(path) {
		return "", fmt.Errorf("no berthd listens at %q; start it, or use --host %s: %w", path, noHost, containerizer.ErrUnavailable)
	}
	return s.Host, nil
}

// checkHere refuses what is about files of the machine that berth runs on, when another
// one is meant.
func (s *Settings) checkHere() error {
	if !strings.HasPrefix(s.Host, schemeTCP) {
		return nil
	}
	return sentencef(containerizer.ErrUnsupported, "this is about files of the machine that berth runs on; do it on %q itself", s.Host)
}

// checkTCP refuses to speak without TLS to another machine.
func (s *Settings) checkTCP() error {
	host, port, err := net.SplitHostPort(strings.TrimPrefix(s.Host, schemeTCP))
	if err != nil || host == "" || port == "" {
		return invalidf("host %q is not tcp://HOST:PORT", s.Host)
	}
	switch {
	case s.TLS.CA != "" && s.TLS.Cert != "" && s.TLS.Key != "":
		return nil
	case s.TLS != TLS{}:
		return invalidf("host %q: --tls-ca, --tls-cert and --tls-key go together", s.Host)
	}
	if a, err := netip.ParseAddr(host); err != nil || !a.IsLoopback() {
		return invalidf("host %q needs --tls-ca, --tls-cert and --tls-key; only 127.0.0.1 and ::1 do without", s.Host)
	}
	return nil
}

// listens says whether somebody answers at a socket. A daemon that was killed leaves
// its socket; we do without it then, over the same folders.
func listens(path string) bool {
	if _, err := os.Lstat(path); err != nil { // as a rule, and cheaper than to try
		return false
	}
	c, err := net.Dial("unix", path) //nolint:noctx // a local socket answers or refuses at once
	if err != nil {
		return false
	}
	_ = c.Close() // nothing was written
	return true
}

// tls puts flags before the environment before the file.
func (g *globals) tls(s *Settings) TLS {
	c := &s.Client
	return TLS{
		CA: cmp.Or(g.tlsCA, os.Getenv("BERTH_TLS_CA"), c.TLSCA), Cert: cmp.Or(g.tlsCert, os.Getenv("BERTH_TLS_CERT"), c.TLSCert),
		Key: cmp.Or(g.tlsKey, os.Getenv("BERTH_TLS_KEY"), c.TLSKey),
	}
}

// Remote is implemented by nodes that are a daemon's.
type Remote interface {
	// Daemon says which one, and how its node is.
	Daemon(ctx context.Context) (*Daemon, error)
}

// Daemon is what a daemon says of itself.
type Daemon struct {
	// About says which one it is, for people.
	About string
	// Conditions are the kinds of pressure that the node may be under.
	Conditions []Condition
}

// Condition is one of them.
type Condition struct {
	Name    string
	Active  bool
	Since   time.Time
	Message string
}

func (a *App) remote() bool {
	_, is := a.node.(Remote)
	return is
}
