package daemon

import (
	"context"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// calls bounds how many are in progress. Those of the health service are not counted:
// a daemon with much to do is not ill.
type calls struct {
	most    int64
	metrics *Metrics

	running atomic.Int64
}

// begin admits a call, which ends with end.
func (c *calls) begin(method string) (end func(), err error) {
	if strings.HasPrefix(method, "/grpc.health.") {
		return func() {}, nil
	}
	if c.running.Add(1) > c.most {
		c.running.Add(-1)
		c.metrics.refused.WithLabelValues("calls").Inc()
		return nil, status.Errorf(codes.ResourceExhausted, "%d calls are in progress; try again later", c.most)
	}
	return func() { c.running.Add(-1) }, nil
}

func (c *calls) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	end, err := c.begin(info.FullMethod)
	if err != nil {
		return nil, err
	}
	defer end()
	return handle(ctx, request)
}

func (c *calls) stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	end, err := c.begin(info.FullMethod)
	if err != nil {
		return err
	}
	defer end()
	return handle(server, stream)
}
