package client

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// Options of a monitor to be started.
type Options struct {
	// ExitCommand is executed by the monitor, in place of itself, when its root has
	// ended and no client that promised to is there to tear it down: a program's
	// absolute path and its arguments. Empty: the monitor only ends.
	ExitCommand []string
	// Late says that the last argument of ExitCommand is left out, and comes with Enter.
	Late bool
	// Env is the environment of the exit command.
	Env []string
}

// Start is Spawn and Enter.
func Start(binary, dir string, o Options) (*Client, error) {
	c, err := Spawn(binary, o)
	if err != nil {
		return nil, err
	}
	if err := c.Enter(dir, ""); err != nil {
		_ = c.Close() // the error is told
		return nil, err
	}
	return c, nil
}

// MaxLate is the length of the longest argument that can come late, in bytes.
const MaxLate = wire.LateRoom

// Enter tells a monitor that was spawned the private directory of its container,
// which has to come before the first launch, and the last argument of its exit command
// where that was left out (else "").
func (c *Client) Enter(dir, last string) error {
	if len(last) > MaxLate {
		return fmt.Errorf("the last argument of an exit command has %d bytes, at most %d can come late: %w", len(last), MaxLate, containerizer.ErrInvalid)
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open monitor directory %q: %w", dir, err)
	}
	defer closeAll([]int{fd})
	_ = c.send(wire.Header{Type: wire.TypeHome}, late(last), fd) // where nobody receives it, the first request says why
	return nil
}

// late is the body of a TypeHome.
type late string

// Append implements [wire.Body].
func (l late) Append(b []byte) []byte { return append(b, l...) }

// Spawn makes a process of the program at binary, to be the monitor of a container
// that need not exist yet. It returns before the monitor runs; when it cannot be
// started, the first request says why. A monitor that is closed without a directory
// ends, and leaves out the exit command.
func Spawn(binary string, o Options) (*Client, error) {
	if len(o.ExitCommand) > 0 && o.ExitCommand[0][:min(1, len(o.ExitCommand[0]))] != "/" {
		return nil, fmt.Errorf("exit command %q is no absolute path: %w", o.ExitCommand[0], containerizer.ErrInvalid)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	s, err := newSocket(pair[0])
	if err != nil {
		_ = unix.Close(pair[1]) // the error is told
		return nil, err
	}
	c := newClient(s)
	c.started = make(chan struct{})
	go func() {
		err := c.spawn(binary, o, pair[1])
		if err != nil {
			c.fail(err) // before the end of the connection does
		}
		_ = unix.Close(pair[1]) // nothing was written
		close(c.started)
	}()
	go c.run()
	runtime.Gosched() // a process with one P would spawn it when it has nothing else to do
	return c, nil
}

// thpMu guards the process's huge page setting while it is lent to a child.
//
//nolint:gochecknoglobals // what it guards is the process's, too
var thpMu sync.Mutex

// spawn forks and executes the monitor.
func (c *Client) spawn(binary string, o Options, conn int) error {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/null: %w", err)
	}
	defer closeAll([]int{null})
	sealed, path, err := seal(binary)
	if err != nil {
		return fmt.Errorf("start the monitor %q: %w", binary, err)
	}
	defer closeAll(sealed)
	pidfd := -1
	attr := &syscall.ProcAttr{
		Env:   append(append(make([]string, 0, len(o.Env)+2), o.Env...), wire.EnvOneP, wire.EnvNoGC),
		Files: []uintptr{uintptr(null), uintptr(null), uintptr(null), uintptr(conn)},
		Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd},
	}
	thpMu.Lock()
	// The setting passes through execve. With huge pages a Go heap of 200 KiB takes
	// 2 MiB; the monitor takes it back for its own children.
	before, _ := unix.PrctlRetInt(unix.PR_GET_THP_DISABLE, 0, 0, 0, 0)
	_ = unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0)
	argv := append([]string{binary}, o.ExitCommand...)
	if o.Late {
		argv = append(argv, strings.Repeat(string(wire.LateFill), wire.LateRoom))
	}
	pid, err := syscall.ForkExec(path, argv, attr)
	_ = unix.Prctl(unix.PR_SET_THP_DISABLE, uintptr(before), 0, 0, 0)
	thpMu.Unlock()
	if err != nil {
		return fmt.Errorf("start the monitor %q: %w", binary, err)
	}
	c.pid, c.pidfd = pid, pidfd
	return nil
}

// reap waits for the monitor's end, in whatever form, so that it does not stay a
// zombie of a caller that lives long. It costs no thread where the poller can
// watch a pidfd.
func (c *Client) reap() {
	if c.pidfd < 0 || unix.SetNonblock(c.pidfd, true) != nil {
		_, _ = syscall.Wait4(c.pid, nil, 0, nil) // nothing to learn from it
		return
	}
	f := os.NewFile(uintptr(c.pidfd), "berth-monitor")
	defer func() { _ = f.Close() }() // nothing was written
	raw, err := f.SyscallConn()
	if err == nil {
		err = raw.Read(func(fd uintptr) bool {
			var info unix.Siginfo
			err := unix.Waitid(unix.P_PIDFD, int(fd), &info, unix.WEXITED|unix.WNOHANG, nil)
			return info.Signo != 0 || errors.Is(err, unix.ECHILD)
		})
	}
	if err != nil {
		_, _ = syscall.Wait4(c.pid, nil, 0, nil) // nothing to learn from it
	}
}
