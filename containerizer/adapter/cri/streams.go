package cri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"github.com/berth-dev/berth/containerizer"
)

// streams serves exec, attach and port forwarding: a call gives out a URL with a token
// that is good once and for a minute.
type streams struct {
	server   streaming.Server
	listener net.Listener
	http     *http.Server
}

func newStreams(ctx context.Context, s *Server) (*streams, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.o.StreamAddress)
	if err != nil {
		return nil, err
	}
	config := streaming.DefaultConfig
	config.Addr = l.Addr().String()
	config.BaseURL = &url.URL{Scheme: "http", Host: config.Addr}
	server, err := streaming.NewServer(config, &streamRuntime{s})
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &streams{server, l, &http.Server{Handler: server, ReadHeaderTimeout: 30 * time.Second}}, nil
}

func (s *streams) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.http.Close() }) // streams end with the daemon
	defer stop()
	if err := s.http.Serve(s.listener); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve streams on %s: %w", s.listener.Addr(), err)
	}
	return nil
}

// running finds a container that runs.
func (s *Server) running(ctx context.Context, id string) (item, error) {
	i, err := s.index.container(ctx, id)
	if err == nil && i.status.State != containerizer.StateRunning {
		err = fmt.Errorf("container %q is %s, not running: %w", id, i.status.State, containerizer.ErrFailedPrecondition)
	}
	return i, err
}

// Exec prepares a stream.
func (s *runtimeService) Exec(ctx context.Context, r *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	if err := checkStreams(r.GetTty(), r.GetStdin(), r.GetStdout(), r.GetStderr()); err != nil {
		return nil, err
	}
	if len(r.GetCmd()) == 0 {
		return nil, fmt.Errorf("execute in container %q: no command is given: %w", r.GetContainerId(), containerizer.ErrInvalid)
	}
	if _, err := s.running(ctx, r.GetContainerId()); err != nil {
		return nil, err
	}
	return s.streams.server.GetExec(r)
}

// Attach prepares a stream.
func (s *runtimeService) Attach(ctx context.Context, r *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	if err := checkStreams(r.GetTty(), r.GetStdin(), r.GetStdout(), r.GetStderr()); err != nil {
		return nil, err
	}
	i, err := s.running(ctx, r.GetContainerId())
	if err != nil {
		return nil, err
	}
	if has := i.record.container.GetConfig().GetTty(); has != r.GetTty() {
		return nil, fmt.Errorf("attach to container %q: whether there is a terminal was decided when it was created (%t): %w", r.GetContainerId(), has, containerizer.ErrInvalid)
	}
	return s.streams.server.GetAttach(r)
}

// PortForward prepares a stream.
func (s *runtimeService) PortForward(ctx context.Context, r *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	i, err := s.index.sandbox(ctx, r.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	if podState(i.status) != runtimeapi.PodSandboxState_SANDBOX_READY {
		return nil, fmt.Errorf("pod sandbox %q is not ready: %w", r.GetPodSandboxId(), containerizer.ErrFailedPrecondition)
	}
	return s.streams.server.GetPortForward(r)
}

// streamRuntime does what a stream is for.
type streamRuntime struct{ *Server }

// Exec implements [streaming.Runtime].
func (s *streamRuntime) Exec(ctx context.Context, id string, cmd []string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error { //nolint:revive // the library's
	i, err := s.running(ctx, id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &containerizer.Process{Args: cmd, Terminal: tty, Stdin: in != nil, StdinOnce: in != nil && !tty} // on a terminal the end is typed
	if tty {
		p.Env = []string{"TERM=xterm"}
	}
	t, err := s.execute(ctx, i.status.ID, p, ioOf(ctx, in, out, errOut, resize))
	if errors.Is(err, containerizer.ErrCommandNotFound) {
		return utilexec.CodeExitError{Err: err, Code: 127}
	}
	if errors.Is(err, containerizer.ErrCommandNotExecutable) {
		return utilexec.CodeExitError{Err: err, Code: 126}
	}
	if err != nil {
		return err
	}
	if t.ExitCode != 0 {
		return utilexec.CodeExitError{Err: fmt.Errorf("command %q ended with exit code %d", cmd, t.ExitCode), Code: t.ExitCode}
	}
	return nil
}

// Attach implements [streaming.Runtime]. Leaving does not end the container.
func (s *streamRuntime) Attach(ctx context.Context, id string, in io.Reader, out, errOut io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize) error {
	i, err := s.running(ctx, id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	session, err := s.o.Engine.Attach(ctx, i.status.ID, *ioOf(ctx, in, out, errOut, resize))
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, session.Detach)
	defer stop()
	return session.Wait()
}

// ioOf are the ends of a client. Interfaces around nil are nil here.
func ioOf(ctx context.Context, in io.Reader, out, errOut io.WriteCloser, resize <-chan remotecommand.TerminalSize) *containerizer.IO {
	c := &containerizer.IO{Stdin: in}
	if out != nil {
		c.Stdout = out
	}
	if errOut != nil {
		c.Stderr = errOut
	}
	if resize != nil {
		c.Resize = sizes(ctx, resize)
	}
	return c
}

// sizes translates sizes of terminals until ctx ends; empty ones are left out.
func sizes(ctx context.Context, in <-chan remotecommand.TerminalSize) <-chan containerizer.Size {
	out := make(chan containerizer.Size)
	go func() {
		defer close(out)
		for {
			select {
			case size, more := <-in:
				if !more {
					return
				}
				if size.Width == 0 || size.Height == 0 {
					continue
				}
				select {
				case out <- containerizer.Size{Columns: size.Width, Rows: size.Height}:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// PortForward implements [streaming.Runtime]: it connects to a port of the pod, from
// within its network namespace.
func (s *streamRuntime) PortForward(ctx context.Context, id string, port int32, stream io.ReadWriteCloser) error {
	i, err := s.index.sandbox(ctx, id)
	if err != nil {
		return err
	}
	if !validPort(port) {
		return fmt.Errorf("port %d: %w", port, containerizer.ErrInvalid)
	}
	path := ""
	if i.status.Spec.Namespaces.Network.Mode != containerizer.NamespaceHost {
		if path, err = s.o.Engine.NamespacePath(ctx, i.status.ID, specs.NetworkNamespace); err != nil {
			return err
		}
	}
	conn, err := dialIn(ctx, path, port)
	if err != nil {
		return fmt.Errorf("forward port %d of pod sandbox %q: %w", port, id, err)
	}
	defer conn.Close() //nolint:errcheck // both directions have ended
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(conn, stream) // a client that has left
		if tcp, is := conn.(*net.TCPConn); is {
			_ = tcp.CloseWrite()
		}
	}()
	_, err = io.Copy(stream, conn)
	_ = stream.Close() // nothing more comes from the pod
	select {
	case <-sent:
	case <-time.After(drainTime): // a client that waits for our verdict before it closes its side
		if s, is := stream.(interface{ Reset() error }); is {
			_ = s.Reset() // ends the other direction
		}
		_ = conn.Close()
		<-sent
	}
	return err
}

// dialTime bounds a connection within the node.
const dialTime = 10 * time.Second

// dialIn connects to localhost in the network namespace at path, "" being ours. The
// thread that has entered it is not used for anything else afterwards.
func dialIn(ctx context.Context, path string, port int32) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	if path == "" {
		return dialLocal(ctx, port)
	}
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		conn, err := dialEntered(ctx, path, port)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

func dialEntered(ctx context.Context, path string, port int32) (net.Conn, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the network namespace %q: %w", path, err)
	}
	defer unix.Close(fd) //nolint:errcheck // only read
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter the network namespace %q: %w", path, err)
	}
	return dialLocal(ctx, port)
}

// dialLocal tries both families on the calling thread: a Dialer with one address makes its
// socket there.
func dialLocal(ctx context.Context, port int32) (net.Conn, error) {
	var errs []error
	for _, host := range []string{"127.0.0.1", "::1"} {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(host, fmt.Sprint(port)))
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}
