package executor

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/translate"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
)

// prober looks at a task from within: commands run in its container, connections are made
// in its network.
type prober struct {
	engine containerizer.Engine
	id     containerizer.ContainerID
	spec   *containerizer.Spec
	// network is the namespace that the task's network is in; "" is ours.
	network string
	client  *http.Client
}

func newProber(engine containerizer.Engine, status *containerizer.Status, spec *containerizer.Spec) *prober {
	p := &prober{engine: engine, id: status.ID, spec: spec}
	if spec.Namespaces.Network.Mode == containerizer.NamespacePrivate && status.PID > 0 {
		p.network = fmt.Sprintf("/proc/%d/ns/net", status.PID)
	}
	p.client = &http.Client{Transport: &http.Transport{
		DialContext: p.dial, DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // whether it answers is asked, not who it is; so does Mesos
	}}
	return p
}

// command runs c in the task's container, and returns its exit status.
func (p *prober) command(ctx context.Context, c *mesosv1.CommandInfo) (int, error) {
	process, err := translate.Process(c, p.spec)
	if err != nil {
		return 0, err
	}
	run, err := p.engine.Exec(ctx, p.id, process, nil)
	if err != nil {
		return 0, err
	}
	defer run.Close() //nolint:errcheck // it is only let go of
	end, err := run.Wait(ctx)
	if err != nil {
		_ = run.Signal(context.WithoutCancel(ctx), int(unix.SIGKILL)) // it may have ended by now
		return 0, fmt.Errorf("wait for the command: %w", err)
	}
	return end.ExitCode, nil
}

// address is a port of the task's own host.
func address(port uint32, protocol mesosv1.NetworkInfo_Protocol) string {
	host := "127.0.0.1"
	if protocol == mesosv1.NetworkInfo_IPv6 {
		host = "::1"
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// http asks for a page, and returns the status of the answer.
func (p *prober) http(ctx context.Context, scheme string, port uint32, path string, protocol mesosv1.NetworkInfo_Protocol) (int, error) {
	if scheme == "" {
		scheme = "http"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+address(port, protocol)+path, http.NoBody)
	if err != nil {
		return 0, err
	}
	answer, err := p.client.Do(r)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}

// tcp connects.
func (p *prober) tcp(ctx context.Context, port uint32, protocol mesosv1.NetworkInfo_Protocol) error {
	conn, err := p.dial(ctx, "tcp", address(port, protocol))
	if err != nil {
		return err
	}
	return conn.Close()
}

// dial connects in the task's network. The thread that has entered it is not used for
// anything else afterwards.
func (p *prober) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if p.network == "" {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		conn, err := p.dialEntered(ctx, network, address)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

// dialEntered enters the network and connects on this thread: a Dialer with one address
// makes its socket there.
func (p *prober) dialEntered(ctx context.Context, network, address string) (net.Conn, error) {
	fd, err := unix.Open(p.network, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the network namespace %q: %w", p.network, err)
	}
	defer unix.Close(fd) //nolint:errcheck // only read
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter the network namespace %q: %w", p.network, err)
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}
