package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/berth-dev/berth/containerizer/adapter/grpc/wire"
	berthv1 "github.com/berth-dev/berth/proto/berth/v1"
)

// maxMessage bounds a message of the daemon; lists come in parts far smaller.
const maxMessage = 16 << 20

// window is how much a daemon may send ahead of who reads.
const window = 4 << 20

// Client is a connection to a daemon. It is safe for concurrent use.
type Client struct {
	conn *grpc.ClientConn
	// Containers is the engine of the daemon, Images its store, Artifacts its fetcher.
	Containers *Engine
	Images     *Images
	Artifacts  *Artifacts

	system berthv1.SystemServiceClient
}

// New returns a client of the daemon at target: "unix:///run/berth/berth.sock", or a
// host and port with credentials. It connects when it is first used. The caller closes
// it.
func New(target string, tls credentials.TransportCredentials) (*Client, error) {
	if tls == nil {
		tls = insecure.NewCredentials()
	}
	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(tls), grpc.WithDisableServiceConfig(), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		// A daemon has done with a list when it has sent it, not when it has been read.
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect(), MinConnectTimeout: connectTimeout}),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to the daemon at %q: %w", target, err)
	}
	system := berthv1.NewSystemServiceClient(conn)
	return &Client{
		conn:       conn,
		Containers: &Engine{rpc: berthv1.NewContainersServiceClient(conn), system: system},
		Images:     &Images{rpc: berthv1.NewImagesServiceClient(conn)},
		Artifacts:  &Artifacts{rpc: berthv1.NewArtifactsServiceClient(conn)},
		system:     system,
	}, nil
}

// Close gives up the connection. What goes on in the daemon goes on.
func (c *Client) Close() error { return c.conn.Close() }

// Info returns what the daemon tells about itself.
func (c *Client) Info(ctx context.Context) (*berthv1.InfoResponse, error) {
	return call(c.system.Info(ctx, &berthv1.InfoRequest{}))
}

// Reload makes the daemon read its configuration again.
func (c *Client) Reload(ctx context.Context) (applied, restart []string, err error) {
	r, err := call(c.system.Reload(ctx, &berthv1.ReloadRequest{}))
	return r.GetApplied(), r.GetRestart(), err
}

// call gives the error of a call its class.
func call[M any](m *M, err error) (*M, error) {
	if err != nil {
		return nil, wire.Error(err)
	}
	return m, nil
}

// WaitReady waits until the daemon listens and has put right what earlier ones left.
// Calls work before that, too.
func (c *Client) WaitReady(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := healthv1.NewHealthClient(c.conn).Watch(ctx, &healthv1.HealthCheckRequest{}, grpc.WaitForReady(true))
	err = each(stream, err, func(m *healthv1.HealthCheckResponse) error {
		if m.GetStatus() == healthv1.HealthCheckResponse_SERVING {
			return errReady
		}
		return nil
	})
	if errors.Is(err, errReady) {
		return nil
	}
	return fmt.Errorf("wait for the daemon: %w", errors.Join(err, context.Cause(ctx)))
}

// errReady ends the wait for a daemon.
var errReady = errors.New("ready")

// connectTimeout is long enough for a daemon on another machine.
const connectTimeout = 10 * time.Second

// reconnect is how soon is tried again to reach a daemon that does not listen: one that
// was killed is there again in a moment.
func reconnect() backoff.Config {
	return backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}
}

// each calls f for every message of a stream, until its end or an error of f; the
// caller ends the stream's context then.
func each[M any](stream grpc.ServerStreamingClient[M], err error, f func(*M) error) error {
	if err != nil {
		return wire.Error(err)
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return wire.Error(err)
		}
		if err := f(m); err != nil {
			return err
		}
	}
}
