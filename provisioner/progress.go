package provisioner

import (
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/store"
)

// interval is the least time between two reports of one layer's bytes.
const interval = 50 * time.Millisecond

// progress calls a function one at a time. A nil progress calls nobody.
type progress struct {
	mu   sync.Mutex
	call func(containerizer.Progress)
	last map[digest.Digest]time.Time
}

func newProgress(call func(containerizer.Progress)) *progress {
	if call == nil {
		return nil
	}
	return &progress{call: call, last: map[digest.Digest]time.Time{}}
}

func (p *progress) report(d v1.Descriptor, phase string, n int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.call(containerizer.Progress{Layer: d.Digest, Phase: phase, Done: n, Total: d.Size})
}

func (p *progress) waiting(d v1.Descriptor) { p.report(d, "waiting", 0) }

func (p *progress) done(d v1.Descriptor, phase string) { p.report(d, phase, d.Size) }

// bytes tells how far a layer is, not too often.
func (p *progress) bytes(d v1.Descriptor, n int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	now := time.Now()
	due := now.Sub(p.last[d.Digest]) >= interval
	if due {
		p.last[d.Digest] = now
	}
	p.mu.Unlock()
	if due {
		p.report(d, "downloading", n)
	}
}

// existing reports all layers of an image that is there.
func (p *progress) existing(i *store.Image) {
	for _, l := range i.Layers {
		p.done(l.Blob, "exists")
	}
}
