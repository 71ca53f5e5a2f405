package client

import (
	"context"
	"time"

	"github.com/berth-dev/berth/containerizer"
	berthv1 "github.com/berth-dev/berth/proto/berth/v1"
)

// LogLine is a line of a log with its end, or a piece of one without.
type LogLine struct {
	At     time.Time
	Stderr bool
	Data   []byte // valid until the next one is read
}

// Logs calls emit for the last lines of a container's log, all when tail is negative,
// and with follow for what comes until the container has ended. An error of emit ends
// it.
func (e *Engine) Logs(ctx context.Context, id containerizer.ContainerID, tail int, follow bool, emit func(LogLine) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &berthv1.LogsRequest{Id: id.String(), Follow: follow}
	if tail >= 0 {
		r.Tail = new(int64(tail))
	}
	stream, err := e.rpc.Logs(ctx, r)
	return each(stream, err, func(m *berthv1.LogsResponse) error {
		return emit(LogLine{At: m.GetAt().AsTime(), Stderr: m.GetStream() == berthv1.Stream_STREAM_STDERR, Data: m.GetData()})
	})
}
