package client

import (
	"context"
	"fmt"
	"sync"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// Session connects a containerizer.IO to the streams of a process. Output is
// written by one goroutine, which ends with the session; input is read by another,
// which ends with the next read of it that returns.
type Session struct {
	client *Client
	io     *containerizer.IO
	flags  wire.SessionFlags
	tag    uint32
	// attached says that the session is not that of a launch, whose input may go on
	// after the output has ended.
	attached bool
	over     chan struct{} // closed at the end of the session
	work     sync.WaitGroup

	mu     sync.Mutex
	news   sync.Cond // of everything below
	chunks []chunk   // output not written yet
	ended  bool      // no more output comes
	err    error     // why, if not for the end of output
	window int       // bytes of input that may be sent
	closed bool      // the process takes no more input
}

// chunk is a piece of output.
type chunk struct {
	stream wire.Stream
	data   []byte
}

var _ containerizer.Session = (*Session)(nil)

func newSession(c *Client, streams *containerizer.IO) *Session {
	s := &Session{client: c, io: streams, over: make(chan struct{}), window: wire.StdinWindow}
	s.news.L = &s.mu
	if streams.Stdin != nil {
		s.flags |= wire.SessionStdin
	}
	if streams.Stdout != nil {
		s.flags |= wire.SessionStdout
	}
	if streams.Stderr != nil {
		s.flags |= wire.SessionStderr
	}
	if s.flags == 0 {
		s.flags = wire.SessionStdout // to learn of the end; what comes is thrown away
	}
	return s
}

// Wait says what happens to output when the writers of a session do not keep up:
// the process waits for them, or the session is dropped.
type Wait bool

// Attach connects streams to an element's process.
func (c *Client) Attach(ctx context.Context, name string, streams *containerizer.IO, wait Wait) (*Session, error) {
	s := newSession(c, streams)
	s.attached = true
	flags := s.flags
	if wait {
		flags |= wire.SessionPause
	}
	tag, k, err := c.open(4, s)
	if err != nil {
		return nil, err
	}
	err = c.send(wire.Header{Type: wire.TypeAttach, Flags: uint16(flags), Tag: tag}, wire.Name(name))
	if err == nil {
		var r reply
		if r, err = c.next(ctx, k); err == nil && r.kind != wire.TypeOK {
			err = unexpected(r.kind)
		}
	}
	if err != nil {
		c.forget(tag)
		return nil, about(name, err)
	}
	s.start()
	return s, nil
}

// start begins to move bytes.
func (s *Session) start() {
	s.work.Go(s.writeOutput)
	if s.io.Stdin != nil {
		go s.readInput()
	}
	if s.io.Resize != nil {
		s.work.Go(s.passSizes)
	}
}

// Wait implements containerizer.Session.
func (s *Session) Wait() error {
	s.work.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Detach implements containerizer.Session.
func (s *Session) Detach() {
	if s.end(nil) {
		_ = s.client.send(wire.Header{Type: wire.TypeDetach, Tag: s.tag}, nil) // a lost connection detaches too
		if s.attached {
			s.client.forget(s.tag)
		}
	}
}

// end ends the session; it is false when it had ended before.
func (s *Session) end(err error) bool { return s.close(err, both) }

// directions are what a session ends with.
type directions uint8

const (
	outputOnly directions = iota
	both
)

// close is end, which may leave the input going on.
func (s *Session) close(err error, d directions) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.over:
		return false
	default:
	}
	close(s.over)
	s.ended = true
	s.closed = s.closed || d == both
	if err != nil {
		s.err = err
	}
	s.news.Broadcast()
	return true
}

// broken ends a session whose connection has ended. What has come is written.
func (s *Session) broken(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended, s.err = true, err
	}
	s.closed = true
	s.news.Broadcast()
}

// outputEnded says whether no more output comes.
func (s *Session) outputEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// handle takes a frame of the session. It does not block. An error ends the
// connection.
func (s *Session) handle(h wire.Header, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch h.Type {
	case wire.TypeData:
		if !s.ended {
			s.chunks = append(s.chunks, chunk{wire.Stream(h.Flags), append([]byte(nil), body...)})
		}
	case wire.TypeAck:
		a, err := wire.ParseAck(body)
		if err != nil {
			return err
		}
		s.window += int(a.Bytes)
	case wire.TypeStdinClosed:
		s.closed = true
	case wire.TypeDropped:
		s.ended, s.err = true, errTooSlow
	case wire.TypeOutputEnd:
		s.ended = true
	default:
	}
	s.news.Broadcast()
	return nil
}

// writeOutput writes what comes until it has ended, and gives it back to the window.
func (s *Session) writeOutput() {
	taken := 0
	for {
		c, ok := s.nextChunk()
		if !ok {
			if s.attached {
				s.Detach() // there is nothing left to attach to
			}
			s.close(nil, outputOnly)
			return
		}
		to := s.io.Stdout
		if c.stream == wire.Stderr {
			to = s.io.Stderr
		}
		if to != nil {
			if _, err := to.Write(c.data); err != nil {
				if s.end(fmt.Errorf("write the output of the process: %w", err)) {
					_ = s.client.send(wire.Header{Type: wire.TypeDetach, Tag: s.tag}, nil) // a lost connection detaches too
				}
				return
			}
		}
		if taken += len(c.data); taken >= wire.PauseWindow/4 {
			// An error is the connection's, and ends the session.
			_ = s.client.send(wire.Header{Type: wire.TypeAck, Tag: s.tag}, wire.Ack{Bytes: uint32(taken)})
			taken = 0
		}
	}
}

// nextChunk waits for output. After a detach nothing is left.
func (s *Session) nextChunk() (chunk, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.chunks) == 0 && !s.ended {
		s.news.Wait()
	}
	select {
	case <-s.over:
		return chunk{}, false
	default:
	}
	if len(s.chunks) == 0 {
		return chunk{}, false
	}
	c := s.chunks[0]
	s.chunks[0] = chunk{}
	s.chunks = s.chunks[1:]
	return c, true
}

// readInput sends what the client's reader gives, within the window.
func (s *Session) readInput() {
	buf := make([]byte, wire.MaxData)
	for {
		n, err := s.io.Stdin.Read(buf)
		for data := buf[:n]; len(data) > 0; {
			room := s.room(len(data))
			if room == 0 {
				return
			}
			if s.client.send(wire.Header{Type: wire.TypeData, Tag: s.tag}, raw(data[:room])) != nil {
				return // the session has ended
			}
			data = data[room:]
		}
		if err != nil {
			// A reader that fails has ended, as for any process with a pipe.
			_ = s.client.send(wire.Header{Type: wire.TypeCloseStdin, Tag: s.tag}, nil) // as above
			return
		}
	}
}

// room takes up to n bytes of the window; 0 when no input is wanted any more.
func (s *Session) room(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.window == 0 && !s.closed {
		s.news.Wait()
	}
	if s.closed {
		return 0
	}
	n = min(n, s.window)
	s.window -= n
	return n
}

// passSizes passes on sizes of the client's terminal.
func (s *Session) passSizes() {
	for {
		select {
		case size, ok := <-s.io.Resize:
			if !ok {
				return
			}
			m := wire.Resize{Columns: size.Columns, Rows: size.Rows}
			if s.client.send(wire.Header{Type: wire.TypeResize, Tag: s.tag}, m) != nil {
				return // the session has ended
			}
		case <-s.over:
			return
		}
	}
}

// raw is a body that is sent as it is.
type raw []byte

// Append implements wire.Body.
func (r raw) Append(b []byte) []byte { return append(b, r...) }
