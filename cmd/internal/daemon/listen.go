package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// socket is one that the daemon serves.
type socket struct {
	path     string
	group    string // "" is nobody but root
	readOnly bool
	listener net.Listener
	made     bool // by us
}

// inherited are the listeners that systemd opened for us (sd_listen_fds(3)), by path.
func inherited() (map[string]net.Listener, error) {
	listeners, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("take the sockets of the service manager: %w", err)
	}
	byPath := map[string]net.Listener{}
	for _, l := range listeners {
		if l == nil {
			continue
		}
		byPath[l.Addr().String()] = l
	}
	return byPath, nil
}

// listen makes s listen: the socket that the service manager has, or one of our own in
// place of what a dead daemon left.
func (s *socket) listen(ctx context.Context, given map[string]net.Listener) (err error) {
	if l, ok := given[s.path]; ok {
		s.listener = l
		return nil
	}
	gid, mode, err := s.access()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil { //nolint:gosec // users of the group go through it
		return fmt.Errorf("make the folder of socket %q: %w", s.path, err)
	}
	if st, err := os.Lstat(s.path); err == nil && st.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("listen on %q: there is something that is no socket: %w", s.path, containerizer.ErrFailedPrecondition)
	}
	// Made aside and renamed, so that nobody finds it before its mode is right.
	aside := s.path + ".new"
	if err := os.Remove(aside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("listen on %q: %w", s.path, err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", aside)
	if err != nil {
		return fmt.Errorf("listen on %q: %w", s.path, err)
	}
	if u, is := l.(*net.UnixListener); is {
		u.SetUnlinkOnClose(false) // the next daemon may have its own there by then
	}
	err = errors.Join(os.Chmod(aside, mode), os.Chown(aside, 0, gid))
	if err == nil {
		err = os.Rename(aside, s.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("listen on %q: %w", s.path, err), l.Close())
	}
	s.listener, s.made = &unixListener{l, s.path}, true
	return nil
}

// close ends listening. The lock is ours still, so that the file is, too.
func (s *socket) close() {
	if s.listener == nil {
		return
	}
	_ = s.listener.Close() // the server has closed it as a rule
	if s.made {
		_ = os.Remove(s.path) // a dead socket does no harm
	}
}

// access says who may connect: root, and the group if there is one.
func (s *socket) access() (gid int, mode os.FileMode, err error) {
	if s.group == "" {
		return 0, 0o600, nil
	}
	g, err := user.LookupGroup(s.group)
	if err != nil {
		return 0, 0, fmt.Errorf("socket %q: %w: %w", s.path, err, containerizer.ErrInvalid)
	}
	gid, err = strconv.Atoi(g.Gid)
	return gid, 0o660, err
}

// unixListener says the path that clients use.
type unixListener struct {
	net.Listener

	path string
}

// Addr implements [net.Listener].
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

const (
	// lockPatience is how long a daemon that was killed may hold its lock still: a
	// child that it was about to start has it, until that executes its program.
	lockPatience = 3 * time.Second
	lockPoll     = 10 * time.Millisecond
)

// lock makes this the only daemon of a state folder. It goes with the process.
func lock(ctx context.Context, state string) (*os.File, error) {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, fmt.Errorf("make the state folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(state, "berthd.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the state folder: %w", err)
	}
	for end := time.Now().Add(lockPatience); ; {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) || ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("another berthd serves %q (%w): %w", state, err, containerizer.ErrFailedPrecondition), f.Close())
		}
		time.Sleep(lockPoll)
	}
}
