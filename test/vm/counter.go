package main

import (
	"context"
	"io"
	"sync"
)

// counter passes on what is written to it and lets others wait for an amount.
type counter struct {
	w io.Writer

	mu      sync.Mutex
	n       int64
	changed chan struct{} // closed and replaced with every change of n
}

func newCounter(w io.Writer) *counter {
	return &counter{w: w, changed: make(chan struct{})}
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += int64(n)
	close(c.changed)
	c.changed = make(chan struct{})
	return n, err
}

// wait returns once n bytes were written.
func (c *counter) wait(ctx context.Context, n int64) error {
	for {
		c.mu.Lock()
		have, changed := c.n, c.changed
		c.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
