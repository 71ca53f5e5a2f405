package daemon

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/berth-dev/berth/containerizer"
)

// TestOutOfSpaceIsHeard holds that the daemon hears of errors before they are codes: a call
// that failed for want of space has it look at the disk at once.
func TestOutOfSpaceIsHeard(t *testing.T) {
	d := &Daemon{
		o: Options{Metrics: NewMetrics()}, guard: guard{readOnlyMethods()},
		pressure: &pressure{full: make(chan struct{}, 1)}, trash: make(chan struct{}, 1),
	}
	call := grpc.UnaryHandler(func(context.Context, any) (any, error) {
		return nil, fmt.Errorf("write: %w", containerizer.ErrResourceExhausted)
	})
	info := &grpc.UnaryServerInfo{FullMethod: "/berth.v1.ContainersService/Launch"}
	for _, through := range slices.Backward(d.unaryChain(&calls{most: 10, metrics: d.o.Metrics})) {
		inner := call
		call = func(ctx context.Context, request any) (any, error) { return through(ctx, request, info, inner) }
	}
	_, err := call(peer.NewContext(t.Context(), &peer.Peer{AuthInfo: caller{}}), nil)
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the client is told %v", err)
	}
	select {
	case <-d.pressure.full:
	default:
		t.Error("nobody heard of it")
	}
}
