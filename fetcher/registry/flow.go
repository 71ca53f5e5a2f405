package registry

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// leastFlow is how much has to come in the time of a stall: who sends a byte now
// and then is not sending.
const leastFlow = 32 << 10

// flow is a response's body that fails when it stalls. Only the time in which
// somebody waits for it counts.
type flow struct {
	body    io.ReadCloser
	window  time.Duration
	timer   *time.Timer
	stalled atomic.Bool
	waited  time.Duration
	got     int64
}

func newFlow(body io.ReadCloser, window time.Duration) *flow {
	f := &flow{body: body, window: window}
	f.timer = time.AfterFunc(window, func() {
		f.stalled.Store(true)
		_ = body.Close() // ends the reading
	})
	f.timer.Stop()
	return f
}

// Read reads.
func (f *flow) Read(p []byte) (int, error) {
	if f.stalled.Load() {
		return 0, f.stall()
	}
	start := time.Now()
	f.timer.Reset(f.window)
	n, err := f.body.Read(p)
	f.timer.Stop()
	f.waited += time.Since(start)
	f.got += int64(n)
	if err != nil && f.stalled.Load() {
		return n, f.stall()
	}
	if f.waited < f.window {
		return n, err
	}
	if f.got < leastFlow && err == nil {
		f.stalled.Store(true)
	}
	f.waited, f.got = 0, 0
	return n, err
}

func (f *flow) stall() error {
	return fmt.Errorf("next to nothing came for %v", f.window)
}

func (f *flow) close() {
	f.timer.Stop()
	_ = f.body.Close() // nothing of it is wanted any more
}
