package daemon

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
)

const (
	// sweepPause is how often is looked for what other processes put off.
	sweepPause = time.Minute
	// sweepDelay lets what is put off together be done together.
	sweepDelay = 100 * time.Millisecond
)

// sweep does what was put off, such as deleting files and making images durable, soon
// after that happened, and now and then what killed commands left.
func (d *Daemon) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepPause)
	defer tick.Stop()
	for {
		if err := d.o.Node.Sweep(ctx); err != nil && ctx.Err() == nil {
			d.o.Log.Warn("what was put off is not done", log.Error(err))
		}
		select {
		case <-tick.C:
			if d.interrupted(ctx) {
				d.recoverOnce(ctx)
			}
		case <-d.trash:
			select {
			case <-time.After(sweepDelay):
			case <-ctx.Done():
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// putOff says that there is something to sweep.
func (d *Daemon) putOff() {
	select {
	case d.trash <- struct{}{}:
	default: // it is known
	}
}

func (d *Daemon) onEvent(ev containerizer.Event) {
	d.o.Metrics.events.WithLabelValues(string(ev.Type)).Inc()
	d.memory.touch()
	if ev.Type == containerizer.EventDestroyed {
		d.putOff()
	}
}

// after is called when a method has ended: those of the store may leave something.
func (d *Daemon) after(method string) {
	switch {
	case strings.HasPrefix(method, "/berth.v1.ImagesService/") && !d.guard.reading[method],
		method == runtimeapi.ImageService_PullImage_FullMethodName, method == runtimeapi.ImageService_RemoveImage_FullMethodName:
		d.putOff()
	}
}

func (d *Daemon) afterUnary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	defer d.after(info.FullMethod)
	response, err := handle(ctx, request)
	d.pressure.failed(err)
	return response, err
}

func (d *Daemon) afterStream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	defer d.after(info.FullMethod)
	err := handle(server, stream)
	d.pressure.failed(err)
	return err
}
