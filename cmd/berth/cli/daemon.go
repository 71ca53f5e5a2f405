package cli

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// noHost is the host of who does without a daemon.
const noHost = "none"

// Daemon returns the path of the socket of the daemon that has to do the command, ""
// when none has to. Who named one gets an error when nobody listens there.
func (s *Settings) Daemon() (path string, err error) {
	switch {
	case s.Here || s.Host == noHost:
		return "", nil
	case s.Host == "":
		path = s.Socket(s.State)
		if !listens(path) {
			return "", nil
		}
		return path, nil
	}
	path, is := strings.CutPrefix(s.Host, "unix://")
	if !is || !strings.HasPrefix(path, "/") {
		return "", invalidf("host %q is neither unix:///PATH nor %s", s.Host, noHost)
	}
	if !listens(path) {
		return "", fmt.Errorf("no berthd listens at %q; start it, or use --host %s: %w", path, noHost, containerizer.ErrUnavailable)
	}
	return path, nil
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

// Remote is implemented by nodes that are a daemon's.
type Remote interface {
	// Daemon says which one, for people.
	Daemon(ctx context.Context) (string, error)
}

func (a *App) remote() bool {
	_, is := a.node.(Remote)
	return is
}
