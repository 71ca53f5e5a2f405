package grpc

import (
	"context"
	"io"
	"sync"
)

// queueBytes bounds what of a client's input waits for the process. A client that
// sends more is not read until the process has taken some.
const queueBytes = 1 << 20

// queue carries standard input from a connection to a process.
type queue struct {
	mu      sync.Mutex
	waiting []byte
	ended   bool
	aborted bool
	// changed is closed and replaced whenever one of the above changes.
	changed chan struct{}
}

func newQueue() *queue { return &queue{changed: make(chan struct{})} }

// announce wakes who waits for a change.
//
// Preconditions: q.mu is held.
func (q *queue) announce() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// add puts p at the end once there is room, unless ctx ends before.
func (q *queue) add(ctx context.Context, p []byte) {
	for {
		q.mu.Lock()
		if len(q.waiting) < queueBytes || q.aborted || q.ended {
			if !q.aborted && !q.ended {
				q.waiting = append(q.waiting, p...)
				q.announce()
			}
			q.mu.Unlock()
			return
		}
		changed := q.changed
		q.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// end says that nothing will be added.
func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.announce()
}

// abort ends reading at once.
func (q *queue) abort() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.aborted = true
	q.announce()
}

// Read implements [io.Reader].
func (q *queue) Read(p []byte) (int, error) {
	for {
		q.mu.Lock()
		switch {
		case q.aborted:
			q.mu.Unlock()
			return 0, io.ErrUnexpectedEOF
		case len(q.waiting) > 0:
			n := copy(p, q.waiting)
			q.waiting = q.waiting[n:]
			q.announce()
			q.mu.Unlock()
			return n, nil
		case q.ended:
			q.mu.Unlock()
			return 0, io.EOF
		}
		changed := q.changed
		q.mu.Unlock()
		<-changed
	}
}
