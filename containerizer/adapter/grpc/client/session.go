package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/wire"
	berthv1 "github.com/berth-dev/berth/proto/berth/v1"
)

// connectStream is a call of Connect.
type connectStream = grpc.BidiStreamingClient[berthv1.ConnectRequest, berthv1.ConnectResponse]

// inputChunk is how much of standard input goes in one message.
const inputChunk = 32 << 10

// wanted says what of client is to be connected.
func wanted(client *containerizer.IO) *berthv1.Streams {
	return &berthv1.Streams{Stdin: client.Stdin != nil, Stdout: client.Stdout != nil, Stderr: client.Stderr != nil}
}

// session is a connection to a process. It implements [containerizer.Session], and
// for an exec the rest of [containerizer.ExecProcess].
type session struct {
	stream connectStream
	client containerizer.IO
	cancel context.CancelFunc
	pid    int

	sending  sync.Mutex
	detached atomic.Bool

	output    chan struct{} // closed once the output has ended
	outputErr error         // set before
	ended     bool          // output is closed; of the goroutine that receives

	exit        chan struct{} // closed with the stream
	termination *containerizer.Termination
	exitErr     error
}

// session begins a connection and returns once the process runs.
func (e *Engine) session(ctx context.Context, client *containerizer.IO, begin *berthv1.ConnectRequest) (*session, error) {
	if client != nil && client.Files != nil {
		return nil, fmt.Errorf("descriptors cannot be handed to a process of the daemon (log driver %q): %w", containerizer.LogPassthrough, containerizer.ErrUnsupported)
	}
	sctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel) // ctx bounds the beginning, not the session
	s, err := e.begin(sctx, cancel, client, begin)
	if !stop() && err == nil {
		s.Detach()
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel()
		if cause := context.Cause(ctx); cause != nil {
			return nil, fmt.Errorf("%w (%w)", err, cause)
		}
		return nil, err
	}
	return s, nil
}

func (e *Engine) begin(ctx context.Context, cancel context.CancelFunc, client *containerizer.IO, begin *berthv1.ConnectRequest) (*session, error) {
	stream, err := e.rpc.Connect(ctx)
	if err != nil {
		return nil, wire.Error(err)
	}
	if err := stream.Send(begin); err != nil && !errors.Is(err, io.EOF) { // EOF: Recv says why
		return nil, wire.Error(err)
	}
	s := &session{stream: stream, cancel: cancel, output: make(chan struct{}), exit: make(chan struct{})}
	if client != nil {
		s.client = *client
	}
	// Output that comes before the answer belongs to the session as well.
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil, wire.Error(err)
		}
		if c := m.GetConnected(); c != nil {
			s.pid = int(c.GetPid())
			break
		}
		s.write(m)
	}
	go s.receive()
	if s.client.Stdin != nil {
		go s.sendInput()
	}
	if s.client.Resize != nil {
		go s.sendSizes()
	}
	return s, nil
}

// write writes output where it belongs. When the client cannot write it, that is the
// end of the session, but not of an exec's process.
func (s *session) write(m *berthv1.ConnectResponse) {
	w, p := s.client.Stdout, m.GetStdout()
	if p == nil {
		w, p = s.client.Stderr, m.GetStderr()
	}
	if len(p) == 0 || w == nil || s.ended {
		return
	}
	if _, err := w.Write(p); err != nil {
		s.endOutput(err)
		_ = s.send(&berthv1.ConnectRequest{Message: &berthv1.ConnectRequest_Detach{Detach: &berthv1.Detach{}}}) // it has heard then
	}
}

// receive takes what the daemon sends until the stream ends.
func (s *session) receive() {
	defer s.cancel()
	defer close(s.exit)
	defer s.endOutput(nil)
	for {
		m, err := s.stream.Recv()
		if err != nil {
			s.end(err)
			return
		}
		switch m := m.GetMessage().(type) {
		case *berthv1.ConnectResponse_OutputEnded:
			var err error
			if text := m.OutputEnded.GetError(); text != "" && !s.detached.Load() {
				err = errors.New(text)
			}
			s.endOutput(err)
		case *berthv1.ConnectResponse_Exited:
			s.termination = &containerizer.Termination{}
			s.exitErr = wire.Decode(s.termination, m.Exited)
		default:
			s.write(&berthv1.ConnectResponse{Message: m})
		}
	}
}

// endOutput ends the session, with err unless it ended before.
func (s *session) endOutput(err error) {
	if s.ended {
		return
	}
	s.ended = true
	if s.outputErr == nil {
		s.outputErr = err
	}
	close(s.output)
}

// end notes why the stream ended.
func (s *session) end(err error) {
	if errors.Is(err, io.EOF) || s.detached.Load() {
		err = nil
	}
	err = wire.Error(err)
	s.endOutput(err)
	if s.termination == nil && s.exitErr == nil {
		s.exitErr = err
		if err == nil {
			s.exitErr = fmt.Errorf("the connection to the process was given up: %w", containerizer.ErrUnavailable)
		}
	}
}

func (s *session) send(m *berthv1.ConnectRequest) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.detached.Load() {
		return context.Canceled
	}
	return s.stream.Send(m)
}

// sendInput sends standard input until it ends or nobody wants it.
func (s *session) sendInput() {
	buf := make([]byte, inputChunk)
	for {
		n, err := s.client.Stdin.Read(buf)
		if n > 0 && s.send(&berthv1.ConnectRequest{Message: &berthv1.ConnectRequest_Stdin{Stdin: buf[:n]}}) != nil {
			return
		}
		if err != nil {
			_ = s.send(&berthv1.ConnectRequest{Message: &berthv1.ConnectRequest_CloseStdin{CloseStdin: &berthv1.CloseStdin{}}})
			return
		}
	}
}

func (s *session) sendSizes() {
	for {
		select {
		case size, open := <-s.client.Resize:
			if !open {
				return
			}
			m := &berthv1.ConsoleSize{Width: uint64(size.Columns), Height: uint64(size.Rows)}
			if s.send(&berthv1.ConnectRequest{Message: &berthv1.ConnectRequest_Resize{Resize: m}}) != nil {
				return
			}
		case <-s.exit:
			return
		}
	}
}

// Wait implements [containerizer.Session].
func (s *session) Wait() error {
	<-s.output
	return s.outputErr
}

// Detach implements [containerizer.Session].
func (s *session) Detach() {
	s.detached.Store(true)
	s.cancel()
}
