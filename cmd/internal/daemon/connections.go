package daemon

import (
	"fmt"
	"net"
	"sync"
)

// connections bounds how many each peer has: a user of a socket, a machine of a port.
type connections struct {
	most int

	mu    sync.Mutex
	count map[string]int
}

// maxConnections is far more than clients need, whose calls share one.
const maxConnections = 256

// take counts a connection of peer, which ends with the close of what is returned.
func (c *connections) take(peer string, conn net.Conn) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count[peer] >= c.most {
		return nil, fmt.Errorf("%s has %d connections already", peer, c.most)
	}
	if c.count == nil {
		c.count = map[string]int{}
	}
	c.count[peer]++
	return &counted{Conn: conn, done: sync.OnceFunc(func() { c.give(peer) })}, nil
}

func (c *connections) give(peer string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count[peer]--; c.count[peer] == 0 {
		delete(c.count, peer)
	}
}

// counted is a connection that is counted until it is closed.
type counted struct {
	net.Conn

	done func()
}

// Close implements [net.Conn].
func (c *counted) Close() error {
	c.done()
	return c.Conn.Close()
}
