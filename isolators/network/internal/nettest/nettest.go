package nettest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

const childEnv = "BERTH_NETTEST_HOST"

// Main is TestMain of a package whose tests need a host's network. Without root
// the tests run where they are, and Need skips those that need it. The functions of
// after run when all tests have.
func Main(m *testing.M, after ...func()) {
	if os.Geteuid() != 0 || Isolated() {
		if Isolated() {
			if err := loopbackUp(); err != nil {
				fmt.Fprintln(os.Stderr, "nettest: bring lo up:", err)
				os.Exit(1)
			}
		}
		code := m.Run()
		for _, f := range after {
			f()
		}
		os.Exit(code)
	}
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig is that of the thread
	err := cmd.Run()
	if exit, is := errors.AsType[*exec.ExitError](err); is {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "nettest: run the tests in a network namespace:", err)
		os.Exit(1)
	}
}

// Isolated says whether the test has a network of its own.
func Isolated() bool { return os.Getenv(childEnv) != "" }

// Need skips the test where it cannot have a network of its own.
func Need(tb testing.TB) {
	tb.Helper()
	if !Isolated() {
		tb.Skip("needs root, for a network namespace of its own")
	}
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// Namespace is a network namespace held by a process of its own.
type Namespace struct {
	cmd *exec.Cmd
}

// New makes a network namespace with lo up, gone at the end of the test.
func New(tb testing.TB) *Namespace {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), "/bin/sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		tb.Fatalf("start a process in a network namespace: %v", err)
	}
	n := &Namespace{cmd: cmd}
	tb.Cleanup(n.End)
	n.Do(tb, func() error { return loopbackUp() })
	return n
}

// PID is the process that holds the namespace.
func (n *Namespace) PID() int { return n.cmd.Process.Pid }

// Path opens the namespace.
func (n *Namespace) Path() string { return fmt.Sprintf("/proc/%d/ns/net", n.PID()) }

// End kills the process; the kernel takes the namespace down on its own time.
func (n *Namespace) End() {
	_ = n.cmd.Process.Kill() // it may be gone
	_ = n.cmd.Wait()         // killed
}

// Do runs f on a thread in the namespace. What f starts stays in it.
func (n *Namespace) Do(tb testing.TB, f func() error) {
	tb.Helper()
	if err := n.Try(f); err != nil {
		tb.Fatalf("in network namespace of process %d: %v", n.PID(), err)
	}
}

// Try is Do with the error returned.
func (n *Namespace) Try(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		ns, err := netns.GetFromPath(n.Path())
		if err != nil {
			done <- err
			return
		}
		err = netns.Set(ns)
		if err == nil {
			err = f()
		}
		done <- errors.Join(err, ns.Close())
	}()
	return <-done
}

// Connect joins the test's host to ns with a cable: an interface of that name on
// the host's side with hostCIDR, eth0 on the other with peerCIDR and a default route.
func Connect(tb testing.TB, name string, ns *Namespace, hostCIDR, peerCIDR string) {
	tb.Helper()
	Run(tb, "ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(ns.PID()))
	Run(tb, "ip", "addr", "add", hostCIDR, "dev", name)
	Run(tb, "ip", "link", "set", name, "up")
	host, _, err := net.ParseCIDR(hostCIDR)
	if err != nil {
		tb.Fatal(err)
	}
	ns.Run(tb, "ip", "addr", "add", peerCIDR, "dev", "eth0")
	ns.Run(tb, "ip", "link", "set", "eth0", "up")
	ns.Run(tb, "ip", "route", "add", "default", "via", host.String())
	tb.Cleanup(func() {
		if err := exec.CommandContext(context.WithoutCancel(tb.Context()), "ip", "link", "del", name).Run(); err != nil {
			tb.Logf("remove interface %s: %v", name, err) // gone with its peer
		}
	})
}

// Run runs a command on the test's host and returns its output.
func Run(tb testing.TB, name string, args ...string) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		tb.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Run runs a command in the namespace and returns its output.
func (n *Namespace) Run(tb testing.TB, name string, args ...string) string {
	tb.Helper()
	return Run(tb, "nsenter", append([]string{"-t", fmt.Sprint(n.PID()), "-n", name}, args...)...)
}

// Serve answers every connection and datagram to address in the namespace with
// the client's address as the server sees it, until the test ends.
func (n *Namespace) Serve(tb testing.TB, network, address string) {
	tb.Helper()
	var closer interface{ Close() error }
	n.Do(tb, func() (err error) {
		closer, err = listen(network, address)
		return err
	})
	tb.Cleanup(func() { _ = closer.Close() })
}

// Serve is Namespace.Serve on the test's host.
func Serve(tb testing.TB, network, address string) {
	tb.Helper()
	closer, err := listen(network, address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = closer.Close() })
}

func listen(network, address string) (interface{ Close() error }, error) {
	lc := net.ListenConfig{}
	if strings.HasPrefix(network, "udp") {
		conn, err := lc.ListenPacket(context.Background(), network, address)
		if err != nil {
			return nil, err
		}
		go func() {
			b := make([]byte, 64)
			for {
				_, from, err := conn.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = conn.WriteTo([]byte(from.String()), from)
			}
		}()
		return conn, nil
	}
	l, err := lc.Listen(context.Background(), network, address)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte(conn.RemoteAddr().String()))
			_ = conn.Close()
		}
	}()
	return l, nil
}

// Dial connects to a server of Serve from the test's host and returns its answer.
func Dial(network, address string) (string, error) {
	d := net.Dialer{Timeout: time.Second}
	conn, err := d.DialContext(context.Background(), network, address)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return "", err
	}
	if strings.HasPrefix(network, "udp") {
		if _, err := conn.Write([]byte("?")); err != nil {
			return "", err
		}
	}
	b := make([]byte, 64)
	n, err := conn.Read(b)
	if err != nil {
		return "", err
	}
	host, _, err := net.SplitHostPort(string(b[:n]))
	return host, err
}

// Dial is Dial from within the namespace.
func (n *Namespace) Dial(network, address string) (answer string, err error) {
	err = n.Try(func() (err error) {
		answer, err = Dial(network, address)
		return err
	})
	return answer, err
}
