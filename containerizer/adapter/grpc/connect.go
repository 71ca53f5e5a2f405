package grpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/wire"
	berthv1 "github.com/berth-dev/berth/proto/berth/v1"
)

// connectStream is a call of Connect.
type connectStream = grpc.BidiStreamingServer[berthv1.ConnectRequest, berthv1.ConnectResponse]

// Connect connects a client to a process. What is for the process is read by a
// goroutine of its own, which ends with the stream.
func (s *containers) Connect(stream connectStream) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	c := newConnection(stream)
	defer c.close()
	switch begin := first.GetMessage().(type) {
	case *berthv1.ConnectRequest_Launch:
		id, spec, err := described(begin.Launch)
		if err != nil {
			return err
		}
		return c.session(begin.Launch.GetStreams(), func(ctx context.Context, client *containerizer.IO) (containerizer.Session, error) {
			return s.engine.Launch(ctx, id, spec, containerizer.LaunchOptions{Attach: client, SecretEnv: texts(begin.Launch.GetSecretEnv())})
		})
	case *berthv1.ConnectRequest_Start:
		return on(begin.Start, func(id containerizer.ContainerID) error {
			return c.session(begin.Start.GetStreams(), func(ctx context.Context, client *containerizer.IO) (containerizer.Session, error) {
				return s.engine.Start(ctx, id, containerizer.LaunchOptions{Attach: client})
			})
		})
	case *berthv1.ConnectRequest_Attach:
		return on(begin.Attach, func(id containerizer.ContainerID) error {
			return c.session(begin.Attach.GetStreams(), func(ctx context.Context, client *containerizer.IO) (containerizer.Session, error) {
				return s.engine.Attach(ctx, id, *client)
			})
		})
	case *berthv1.ConnectRequest_Exec:
		return s.connectExec(c, begin.Exec)
	}
	return fmt.Errorf("the first message of a connection is launch, start, attach or exec: %w", containerizer.ErrInvalid)
}

// session connects the client to the streams of the container that begin brings up
// or finds, until the output has ended.
func (c *connection) session(want *berthv1.Streams, begin func(context.Context, *containerizer.IO) (containerizer.Session, error)) error {
	session, err := begin(c.stream.Context(), c.io(want))
	if err != nil {
		return err
	}
	if err := c.send(connected(0)); err != nil {
		session.Detach()
		return err
	}
	go c.receive(session.Detach, nil)
	return c.send(outputEnded(session.Wait()))
}

func (s *containers) connectExec(c *connection, begin *berthv1.ConnectExec) error {
	id, err := parseID(begin.GetId())
	if err != nil {
		return err
	}
	process := &containerizer.Process{}
	if err := wire.Decode(process, begin.GetProcess()); err != nil {
		return fmt.Errorf("process: %w", err)
	}
	var client *containerizer.IO
	if begin.GetStreams() != nil {
		client = c.io(begin.GetStreams())
	}
	ctx := c.stream.Context()
	p, err := s.engine.Exec(ctx, id, process, client)
	if err != nil {
		return err
	}
	defer p.Close() //nolint:errcheck // it is only let go of
	if err := c.send(connected(p.PID())); err != nil {
		return err
	}
	detach := func() {}
	if session := p.Session(); session != nil {
		detach = session.Detach
	}
	go c.receive(detach, func(sig int) error { return p.Signal(ctx, sig) })
	if session := p.Session(); session != nil {
		if err := c.send(outputEnded(session.Wait())); err != nil {
			return err
		}
	}
	t, err := p.Wait(ctx)
	if err != nil {
		return err
	}
	m := &berthv1.Termination{}
	if err := wire.Encode(m, t); err != nil {
		return err
	}
	return c.send(&berthv1.ConnectResponse{Message: &berthv1.ConnectResponse_Exited{Exited: m}})
}

func connected(pid int) *berthv1.ConnectResponse {
	return &berthv1.ConnectResponse{Message: &berthv1.ConnectResponse_Connected{Connected: &berthv1.Connected{Pid: int64(pid)}}}
}

func outputEnded(err error) *berthv1.ConnectResponse {
	m := &berthv1.OutputEnded{}
	if err != nil {
		m.Error = err.Error()
	}
	return &berthv1.ConnectResponse{Message: &berthv1.ConnectResponse_OutputEnded{OutputEnded: m}}
}

// connection is the server's side of one call of Connect.
type connection struct {
	stream connectStream
	sizes  chan containerizer.Size
	input  *queue

	mu sync.Mutex // of send
}

func newConnection(stream connectStream) *connection {
	return &connection{stream: stream, sizes: make(chan containerizer.Size), input: newQueue()}
}

func (c *connection) close() { c.input.abort() }

// io are the streams that a client wants, connected to it.
func (c *connection) io(want *berthv1.Streams) *containerizer.IO {
	client := &containerizer.IO{Resize: c.sizes}
	if want.GetStdin() {
		client.Stdin = c.input
	}
	if want.GetStdout() {
		client.Stdout = writer(func(p []byte) error {
			return c.send(&berthv1.ConnectResponse{Message: &berthv1.ConnectResponse_Stdout{Stdout: p}})
		})
	}
	if want.GetStderr() {
		client.Stderr = writer(func(p []byte) error {
			return c.send(&berthv1.ConnectResponse{Message: &berthv1.ConnectResponse_Stderr{Stderr: p}})
		})
	}
	return client
}

// writer sends what is written. The message is encoded before it returns.
type writer func([]byte) error

func (w writer) Write(p []byte) (int, error) {
	if err := w(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *connection) send(m *berthv1.ConnectResponse) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stream.Send(m)
}

// receive passes on what the client sends until that ends. Then detach is called,
// unless the client has only nothing more to say.
func (c *connection) receive(detach func(), signal func(int) error) {
	for {
		m, err := c.stream.Recv()
		if errors.Is(err, io.EOF) {
			c.input.end()
			return
		}
		if err != nil {
			c.input.abort()
			detach()
			return
		}
		switch m := m.GetMessage().(type) {
		case *berthv1.ConnectRequest_Stdin:
			c.input.add(c.stream.Context(), m.Stdin)
		case *berthv1.ConnectRequest_CloseStdin:
			c.input.end()
		case *berthv1.ConnectRequest_Resize:
			c.resize(m.Resize)
		case *berthv1.ConnectRequest_Signal:
			if signal != nil {
				_ = signal(int(m.Signal)) // the process may have ended
			}
		case *berthv1.ConnectRequest_Detach:
			detach()
		}
	}
}

// resize passes a size on. The launcher takes each at once, until its session ends.
func (c *connection) resize(size *berthv1.ConsoleSize) {
	const most = 1<<16 - 1
	s := containerizer.Size{Columns: uint16(min(size.GetWidth(), most)), Rows: uint16(min(size.GetHeight(), most))} //nolint:gosec // bounded
	select {
	case c.sizes <- s:
	case <-c.stream.Context().Done():
	}
}
