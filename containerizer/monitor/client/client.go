package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// Client is a connection to a monitor.
type Client struct {
	socket  *socket
	started chan struct{} // closed once the monitor was forked; nil after Dial
	pid     int           // of the monitor, once started
	pidfd   int
	done    chan struct{} // closed when nothing is received any more

	sendMu sync.Mutex // held for the frames of one request

	mu    sync.Mutex
	tag   uint32
	calls map[uint32]*call
	err   error // why nothing is received any more
}

// call is a request and what follows from it.
type call struct {
	// replies are the frames on the way. The client drops those that nobody takes: no
	// call has more than the channel holds.
	replies chan reply
	// over is closed by the last frame, which is final, or when the connection ends.
	over    chan struct{}
	final   reply
	session *Session // nil without
}

type reply struct {
	kind wire.Type
	body []byte
	fds  []int
}

// Dial connects to the monitor whose directory is dir.
func Dial(dir string) (*Client, error) {
	s, err := dial(dir)
	if err != nil {
		return nil, err
	}
	c := newClient(s)
	go c.run()
	return c, nil
}

func newClient(s *socket) *Client {
	return &Client{socket: s, pidfd: -1, done: make(chan struct{}), calls: map[uint32]*call{}}
}

// MonitorPID is the pid of a monitor that was started by Start; it waits for that.
func (c *Client) MonitorPID(ctx context.Context) (int, error) {
	if c.started == nil {
		return c.peerPID()
	}
	select {
	case <-c.started:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if c.pid == 0 {
		return 0, c.failure()
	}
	return c.pid, nil
}

// peerPID asks the kernel who listened.
func (c *Client) peerPID() (pid int, err error) {
	controlErr := c.socket.raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid, errors.Join(err, controlErr)
}

// Close ends the connection and with it the client's sessions. Processes are left
// alone; a promise to tear down is void.
func (c *Client) Close() error {
	err := c.socket.close()
	<-c.done
	if errors.Is(err, os.ErrClosed) {
		return nil // the monitor has ended before
	}
	return err
}

// Done is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// run receives until the connection ends, and sees the monitor off if it is ours.
func (c *Client) run() {
	for {
		if err := c.receive(); err != nil {
			c.fail(err)
			break
		}
	}
	close(c.done)
	if c.started == nil {
		return
	}
	if <-c.started; c.pid != 0 {
		c.reap()
	}
}

// receive takes a frame and gives it to whom it belongs.
func (c *Client) receive() error {
	buf, n, fds, err := c.socket.receive()
	if buf != nil {
		defer buffers.Put(buf)
	}
	switch {
	case err == nil && n == 0:
		return errEnded
	case err == nil:
		return c.handle(buf[:n], fds)
	case errors.Is(err, errEnded):
		return err
	}
	return fmt.Errorf("%w (%w)", errEnded, err)
}

// handle gives a frame to whom it belongs. Frames for a tag that is not known any
// more are late and dropped.
func (c *Client) handle(frame []byte, fds []int) error {
	h, body, err := wire.Parse(frame)
	if err != nil {
		closeAll(fds)
		return err
	}
	c.mu.Lock()
	k := c.calls[h.Tag]
	c.mu.Unlock()
	if k == nil {
		closeAll(fds)
		return nil
	}
	switch h.Type {
	case wire.TypeData, wire.TypeAck, wire.TypeOutputEnd, wire.TypeDropped, wire.TypeStdinClosed:
		closeAll(fds)
		if k.session == nil {
			return nil
		}
		err := k.session.handle(h, body)
		if k.session.outputEnded() && k.isOver() {
			c.forget(h.Tag)
		}
		return err
	default:
	}
	r := reply{h.Type, append([]byte(nil), body...), fds}
	if h.Type == wire.TypeExited || h.Type == wire.TypeFailed || h.Type == wire.TypeError {
		c.finish(h.Tag, k, r)
		return nil
	}
	select {
	case k.replies <- r:
	default:
		closeAll(fds)
	}
	return nil
}

// finish takes the last frame of a call. A session may have some of its own yet.
func (c *Client) finish(tag uint32, k *call, r reply) {
	if k.isOver() {
		return
	}
	k.final = r
	close(k.over)
	if k.session == nil || k.session.outputEnded() || r.kind != wire.TypeExited {
		c.forget(tag)
	}
}

func (k *call) isOver() bool {
	select {
	case <-k.over:
		return true
	default:
		return false
	}
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd) // nothing was written
	}
}

// fail ends everything that waits, for the first reason given.
func (c *Client) fail(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	calls := c.calls
	c.calls = map[uint32]*call{}
	c.mu.Unlock()
	for _, k := range calls {
		if k.session != nil {
			k.session.broken(err)
		}
		if !k.isOver() {
			close(k.over)
		}
	}
	_ = c.socket.close() // nothing is sent any more
}

func (c *Client) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// open makes a call, with room for n replies that nobody waits for at the time.
func (c *Client) open(n int, s *Session) (uint32, *call, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, nil, c.err
	}
	c.tag++
	k := &call{replies: make(chan reply, n), over: make(chan struct{}), session: s}
	c.calls[c.tag] = k
	if s != nil {
		s.tag = c.tag
	}
	return c.tag, k, nil
}

func (c *Client) forget(tag uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, tag)
}

// send sends a frame.
func (c *Client) send(h wire.Header, body wire.Body, fds ...int) error {
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	frame := wire.Append(make([]byte, 0, 512), h, body)
	if len(frame) > wire.MaxFrame {
		return fmt.Errorf("request of %d bytes for the monitor: %w", len(frame), containerizer.ErrInvalid)
	}
	for len(fds) > wire.MaxFDs {
		ahead := wire.Append(nil, wire.Header{Type: wire.TypeDescriptors, Tag: h.Tag}, nil)
		if err := c.transmit(ahead, fds[:wire.MaxFDs]); err != nil {
			return err
		}
		fds = fds[wire.MaxFDs:]
	}
	return c.transmit(frame, fds)
}

func (c *Client) transmit(frame []byte, fds []int) error {
	err := c.socket.send(frame, fds)
	if err == nil {
		return nil
	}
	if failure := c.failure(); failure != nil {
		return failure
	}
	return fmt.Errorf("send to the monitor: %w (%w)", containerizer.ErrUnavailable, err)
}

// next waits for a reply. A refusal is an error.
func (c *Client) next(ctx context.Context, k *call) (reply, error) {
	var r reply
	select {
	case r = <-k.replies:
	case <-k.over:
		select {
		case r = <-k.replies: // came before
		default:
			r = k.final
		}
	case <-ctx.Done():
		return r, ctx.Err()
	}
	switch r.kind {
	case 0:
		return r, c.failure()
	case wire.TypeError:
		return r, refusal(r.body)
	default:
		return r, nil
	}
}

// ask makes a request that has one reply.
func (c *Client) ask(ctx context.Context, h wire.Header, body wire.Body, want wire.Type) (reply, error) {
	tag, k, err := c.open(1, nil)
	if err != nil {
		return reply{}, err
	}
	defer c.forget(tag)
	h.Tag = tag
	if err := c.send(h, body); err != nil {
		return reply{}, err
	}
	r, err := c.next(ctx, k)
	if err == nil && r.kind != want {
		err = unexpected(r.kind)
	}
	return r, err
}

func unexpected(kind wire.Type) error {
	return fmt.Errorf("unexpected answer %d of the monitor: %w", kind, containerizer.ErrUnsupported)
}
