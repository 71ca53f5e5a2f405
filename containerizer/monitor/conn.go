package monitor

import (
	"slices"
	"syscall"
	"unsafe"

	"github.com/berth-dev/berth/containerizer/monitor/internal/offheap"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

const (
	// queueSize bounds what waits for one client. Replies may fill all of it, output
	// leaves reserve free.
	queueSize = wire.OutputWindow + reserve
	reserve   = 128 << 10
)

// conn is one client.
type conn struct {
	fd       int
	sessions []*session
	fds      []int // sent ahead for a launch
	promised bool  // this client tears the root down
	broken   bool  // to be dropped
	queue    queue
}

// queue holds frames that the client has not taken yet, each behind its length.
type queue struct {
	b          []byte // off the heap; nil while empty
	head, tail int
}

// ticket is where news goes: the request of a client.
type ticket struct {
	conn *conn
	tag  uint32
}

func (m *monitor) addConn(fd int) bool {
	if len(m.conns) >= maxConns || m.end != endNot {
		return false
	}
	c := m.newConn(fd)
	if m.watch(fd, syscall.EPOLLIN, watch{kind: watchConn, conn: c}) != 0 {
		return false
	}
	m.conns = append(m.conns, c)
	m.spent++
	return true
}

func (m *monitor) connEvent(c *conn, events uint32) {
	if events&syscall.EPOLLOUT != 0 {
		m.sendQueued(c)
	}
	if events&^syscall.EPOLLOUT == 0 {
		return
	}
	for range 16 { // then it is the turn of others
		if c.broken {
			return
		}
		n, size, truncated, e := receive(c.fd, m.frame, m.control)
		if e == syscall.EAGAIN {
			return
		}
		if e != 0 || n == 0 {
			c.broken = true
			return
		}
		fds := m.received(m.control[:size])
		if truncated {
			closeAll(fds)
			m.refuse(ticket{c, 0}, syscall.EMFILE, wire.ReasonLimit)
			c.broken = true
			return
		}
		m.request(c, m.frame[:n], fds)
	}
}

// received returns the descriptors that came with a frame. They are good until the
// next.
func (m *monitor) received(control []byte) (fds []int) {
	fds = m.descriptors[:0]
	defer func() { m.descriptors = fds[:0] }()
	const headerSize = int(unsafe.Sizeof(syscall.Cmsghdr{}))
	for len(control) >= headerSize {
		h := (*syscall.Cmsghdr)(unsafe.Pointer(&control[0]))
		size := int(h.Len)
		if size < headerSize || size > len(control) {
			return fds
		}
		if h.Level == syscall.SOL_SOCKET && h.Type == syscall.SCM_RIGHTS {
			for at := headerSize; at+4 <= size; at += 4 {
				fds = append(fds, int(*(*int32)(unsafe.Pointer(&control[at]))))
			}
		}
		control = control[min((size+7)&^7, len(control)):]
	}
	return fds
}

func closeAll(fds []int) {
	for _, fd := range fds {
		if fd >= 0 {
			closeIt(fd)
		}
	}
}

// body is where the body of a frame for tell is built.
func (m *monitor) body() []byte { return m.reply[:0] }

// tell sends a frame that is no output to a client.
func (m *monitor) tell(t ticket, kind wire.Type, body []byte) {
	if t.conn == nil || t.conn.broken {
		return
	}
	var head [wire.HeaderSize]byte
	wire.Header{Type: kind, Tag: t.tag}.Put(head[:])
	if !m.transmit(t.conn, head[:], body, queueSize) {
		t.conn.broken = true // asks and never listens
	}
}

func (m *monitor) refuse(t ticket, e syscall.Errno, reason wire.Reason) {
	m.tell(t, wire.TypeError, wire.Error{Errno: uint32(e), Reason: reason}.Append(m.body()))
}

// transmit sends a frame or queues it, if the queue does not grow beyond limit.
func (m *monitor) transmit(c *conn, head, tail []byte, limit int) bool {
	if c.broken {
		return true // nobody misses it
	}
	if c.queue.b == nil {
		switch e := send(c.fd, head, tail, nil); e {
		case 0:
			return true
		case syscall.EAGAIN, syscall.ENOBUFS, syscall.ENOMEM:
		default:
			c.broken = true
			return true
		}
	}
	if !c.queue.push(head, tail, limit) {
		return false
	}
	m.rewatch(c.fd, syscall.EPOLLIN|syscall.EPOLLOUT)
	return true
}

// push appends a frame.
func (q *queue) push(head, tail []byte, limit int) bool {
	size := 4 + len(head) + len(tail)
	if q.tail-q.head+size > limit {
		return false
	}
	if q.b == nil {
		if q.b = offheap.Alloc(queueSize); q.b == nil {
			return false
		}
	}
	if q.tail+size > len(q.b) {
		q.tail = copy(q.b, q.b[q.head:q.tail])
		q.head = 0
	}
	*(*uint32)(unsafe.Pointer(&q.b[q.tail])) = uint32(size - 4) // any alignment will do on these machines
	q.tail += 4
	q.tail += copy(q.b[q.tail:], head)
	q.tail += copy(q.b[q.tail:], tail)
	return true
}

// first is the frame to be sent next.
func (q *queue) first() []byte {
	size := int(*(*uint32)(unsafe.Pointer(&q.b[q.head])))
	return q.b[q.head+4 : q.head+4+size]
}

// pop takes the first frame away.
func (q *queue) pop() {
	q.head += 4 + len(q.first())
	if q.head == q.tail {
		q.free()
	}
}

func (q *queue) free() {
	offheap.Free(q.b)
	*q = queue{}
}

// sendQueued sends what the client can take.
func (m *monitor) sendQueued(c *conn) {
	for c.queue.b != nil {
		switch send(c.fd, c.queue.first(), nil, nil) {
		case 0:
			c.queue.pop()
		case syscall.EAGAIN, syscall.ENOBUFS, syscall.ENOMEM:
			return
		default:
			c.broken = true
			return
		}
	}
	m.rewatch(c.fd, syscall.EPOLLIN)
}

// dropBroken lets go of the clients that have left, or must.
func (m *monitor) dropBroken() {
	for i, c := range slices.Backward(m.conns) {
		if c.broken {
			m.conns = append(m.conns[:i], m.conns[i+1:]...)
			m.drop(c)
		}
	}
}

func (m *monitor) drop(c *conn) {
	for len(c.sessions) > 0 {
		m.endSession(c.sessions[len(c.sessions)-1])
	}
	for _, el := range m.elements {
		el.forget(c)
		if el.state == wire.StateBarrier && el.owner == c {
			// Nobody else knows what was to be done while it waits.
			_ = signalProcess(el.pidfd, uint8(syscall.SIGKILL)) // it is a child that was not reaped
		}
		if el.owner == c {
			el.owner = nil
		}
	}
	closeAll(c.fds)
	c.queue.free()
	m.unwatch(c.fd)
	// A process before its execve has a copy of the descriptor; the client shall not
	// wait for it.
	_ = syscall.Shutdown(c.fd, syscall.SHUT_RDWR) // may be gone already
	closeIt(c.fd)
	m.freeConns = append(m.freeConns, c)
}
