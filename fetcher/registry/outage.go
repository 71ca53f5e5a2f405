package registry

import (
	"errors"
	"time"
)

// outageTime is how long a host is left alone that could not be reached, so that
// a mirror that is down costs one attempt in a pull, and not one for each layer.
const outageTime = 30 * time.Second

// outage is a host that is left alone.
type outage struct {
	until time.Time
	slow  bool // it is there, and was only not as fast as a mirror should be
}

// note remembers an endpoint's failure, if it is one of the host and not of what
// was asked for.
func (c *Client) note(e *endpoint, err error) {
	var t *transient
	if !errors.As(err, &t) && !permanent(err) {
		return
	}
	o := outage{until: time.Now().Add(outageTime)}
	if t != nil {
		o.until = time.Now().Add(max(outageTime, min(t.after, maxPause)))
	}
	var slow *errSlow
	o.slow = errors.As(err, &slow) && slow.connected
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down[e.name] = o
}

// outage says whether an endpoint is left alone now.
func (c *Client) outage(e *endpoint) (o outage, down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, down = c.down[e.name]
	if down && time.Now().After(o.until) {
		delete(c.down, e.name)
		return outage{}, false
	}
	return o, down
}
