package client

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/berth-dev/berth/containerizer/adapter/grpc/wire"
	berthv1 "github.com/berth-dev/berth/proto/berth/v1"
)

// maxMessage bounds a message of the daemon; lists come in parts far smaller.
const maxMessage = 16 << 20

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

// Ready says whether the daemon has put right what earlier ones left. Calls work
// before as well.
func (c *Client) Ready(ctx context.Context) (bool, error) {
	r, err := call(healthv1.NewHealthClient(c.conn).Check(ctx, &healthv1.HealthCheckRequest{}))
	return r.GetStatus() == healthv1.HealthCheckResponse_SERVING, err
}
