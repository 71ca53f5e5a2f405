package monitor

// An idle monitor with one container is what there are hundreds of on a node, so
// what it needs is laid out here, beside the heap: every size of object that is
// allocated for the first time costs a Go heap two pages. More of everything comes
// from the heap, and goes back to the pools when it is done with, so that many
// short execs make no garbage.

// instance is the monitor of this process.
//
//nolint:gochecknoglobals // in the program's data instead of on the heap, see above
var instance struct {
	monitor  monitor
	elements [2]element
	conns    [2]conn
	sessions [2]session
	watches  [64]watch
	lists    struct {
		elements, freeElements [8]*element
		conns, freeConns       [8]*conn
		freeSessions           [8]*session
	}
	descriptors, inputs [64]int
}

// pools holds what can be used again.
type pools struct {
	freeElements []*element
	freeConns    []*conn
	freeSessions []*session
}

// newInstance is the monitor with everything in instance free.
func newInstance() *monitor {
	i := &instance
	m := &i.monitor
	m.watches = i.watches[:0]
	m.elements, m.freeElements = i.lists.elements[:0], i.lists.freeElements[:0]
	m.conns, m.freeConns = i.lists.conns[:0], i.lists.freeConns[:0]
	m.freeSessions = i.lists.freeSessions[:0]
	m.descriptors, m.inputs = i.descriptors[:0], i.inputs[:0]
	for n := range i.elements {
		m.freeElements = append(m.freeElements, &i.elements[n])
	}
	for n := range i.conns {
		m.freeConns = append(m.freeConns, &i.conns[n])
	}
	for n := range i.sessions {
		m.freeSessions = append(m.freeSessions, &i.sessions[n])
	}
	return m
}

func (p *pools) newElement() *element {
	el := takeLast(&p.freeElements)
	waiters, sessions, sources := el.waiters[:0], el.sessions[:0], el.in.sources[:0]
	*el = element{waiters: waiters, sessions: sessions, pidfd: -1, record: -1, foreign: adoption{dir: -1, console: -1}}
	if waiters == nil {
		el.waiters = el.waiterRoom[:0]
	}
	el.out[0].fd, el.out[1].fd = -1, -1
	el.in = input{fd: -1, sources: sources}
	for i := range el.held {
		el.held[i] = -1
	}
	return el
}

func (p *pools) newConn(fd int) *conn {
	c := takeLast(&p.freeConns)
	*c = conn{fd: fd, sessions: c.sessions[:0]}
	return c
}

func (p *pools) newSession() *session {
	s := takeLast(&p.freeSessions)
	*s = session{}
	return s
}

// takeLast takes a free object, or makes one.
func takeLast[T any](free *[]*T) *T {
	list := *free
	if len(list) == 0 {
		return new(T)
	}
	last := list[len(list)-1]
	*free = list[:len(list)-1]
	return last
}
