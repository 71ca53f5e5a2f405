package provisioner

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/provisioner/stack"
)

const (
	// writtenAge is how old a measurement may be before another one is begun, if it
	// was quick; one that took long stands writtenShare times as long as it took.
	writtenAge   = 10 * time.Second
	writtenShare = 20
	// writtenPatience is how long the first reader waits.
	writtenPatience = 500 * time.Millisecond
	// writtenMost bounds one measurement.
	writtenMost = 10 * time.Minute
	// maxWritten bounds what is remembered of containers that others removed.
	maxWritten = 8192
)

// written remembers how much containers have written. Going through a writable layer
// takes as long as that has files, so one layer at a time is looked at, and nobody
// waits for more than the first result.
type written struct {
	turn sync.Mutex // held while a layer is looked at

	mu sync.Mutex
	m  map[string]*measured // by directory
}

type measured struct {
	next    time.Time // before that the result stands
	running bool
	first   chan struct{} // closed with the first result
	usage   *containerizer.DiskUsage
}

var _ containerizer.DiskReporter = (*Provisioner)(nil)

// DiskUsage implements [containerizer.DiskReporter].
func (p *Provisioner) DiskUsage(ctx context.Context, c *containerizer.Container) (*containerizer.DiskUsage, error) {
	if c.Rootfs == nil {
		return nil, nil
	}
	dir := c.Rootfs.Upper
	if dir == "" {
		dir = c.Rootfs.Path // a copy is all written
	}
	if !strings.HasPrefix(dir, p.store.ContainerDir(c.ID)+string(filepath.Separator)) {
		return nil, nil // the user's own
	}
	m := p.written.begin(ctx, dir, p.log)
	patience := time.NewTimer(writtenPatience)
	defer patience.Stop()
	select {
	case <-m.first:
	case <-patience.C:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	p.written.mu.Lock()
	defer p.written.mu.Unlock()
	return m.usage, nil
}

// begin begins a measurement of dir if it is time.
func (w *written) begin(ctx context.Context, dir string, l *log.Logger) *measured {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.m[dir]
	if m == nil {
		if w.m == nil || len(w.m) >= maxWritten {
			w.m = map[string]*measured{}
		}
		m = &measured{first: make(chan struct{})}
		w.m[dir] = m
	}
	if !m.running && !time.Now().Before(m.next) {
		m.running = true
		ctx = context.WithoutCancel(ctx)
		go w.measure(ctx, m, dir, l) // it only reads, and nobody has to wait for it
	}
	return m
}

func (w *written) measure(ctx context.Context, m *measured, dir string, l *log.Logger) {
	ctx, cancel := context.WithTimeout(ctx, writtenMost)
	defer cancel()
	w.turn.Lock()
	began := time.Now()
	usage, err := stack.Written(ctx, dir)
	took := time.Since(began)
	w.turn.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	m.running = false
	m.next = time.Now().Add(max(writtenAge, writtenShare*took))
	if err != nil {
		l.Warn("what a container wrote is not known", log.String("path", dir), log.Error(err))
	} else {
		m.usage = &usage
	}
	select {
	case <-m.first:
	default:
		close(m.first)
	}
}

// forget forgets a container that is given up.
func (w *written) forget(dir string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for known := range w.m {
		if strings.HasPrefix(known, dir+string(filepath.Separator)) {
			delete(w.m, known)
		}
	}
}
