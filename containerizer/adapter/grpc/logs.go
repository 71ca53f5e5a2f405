package grpc

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/logfile"
	berthv1 "github.com/berth-dev/berth/proto/berth/v1"
)

// Logs implements [berthv1.ContainersServiceServer].
func (s *containers) Logs(r *berthv1.LogsRequest, stream grpc.ServerStreamingServer[berthv1.LogsResponse]) error {
	o, err := logOptions(r)
	if err != nil {
		return err
	}
	return on(r, func(id containerizer.ContainerID) error {
		ctx, cancel := context.WithCancel(stream.Context())
		defer cancel()
		status, err := s.engine.Status(ctx, id)
		if err != nil {
			return err
		}
		if status.LogPath == "" {
			return fmt.Errorf("container %q keeps no log: %w", id, containerizer.ErrUnsupported)
		}
		if r.GetFollow() && status.State != containerizer.StateExited {
			ended := make(chan struct{})
			o.Ended = ended
			go func() { // ends with the call, at the latest
				defer close(ended)
				_, _ = s.engine.Wait(ctx, id) // gone is ended, too
			}()
			defer func() { cancel(); <-ended }()
		}
		return logfile.Read(ctx, status.LogPath, o, func(e logfile.Entry) error { return stream.Send(logResponse(e)) })
	})
}

func logOptions(r *berthv1.LogsRequest) (logfile.Options, error) {
	o := logfile.Options{Tail: logfile.All}
	if r.Tail != nil {
		o.Tail = int(max(r.GetTail(), 0))
	}
	for _, t := range []struct {
		at  *timestamppb.Timestamp
		out *time.Time
	}{{r.GetSince(), &o.Since}, {r.GetUntil(), &o.Until}} {
		if t.at == nil {
			continue
		}
		if err := t.at.CheckValid(); err != nil {
			return o, fmt.Errorf("%w: %w", err, containerizer.ErrInvalid)
		}
		*t.out = t.at.AsTime()
	}
	return o, nil
}

// logResponse is a record as it travels: a line has its end.
func logResponse(e logfile.Entry) *berthv1.LogsResponse {
	m := &berthv1.LogsResponse{At: timestamppb.New(e.Time), Stream: berthv1.Stream_STREAM_STDOUT, Data: e.Content}
	if e.Stream == "stderr" {
		m.Stream = berthv1.Stream_STREAM_STDERR
	}
	if !e.Partial {
		m.Data = append(m.GetData()[:len(e.Content):len(e.Content)], '\n')
	}
	return m
}
