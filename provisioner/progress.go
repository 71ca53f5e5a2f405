package provisioner

import (
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/store"
)

const (
	// interval is the least time between two reports of one layer's bytes.
	interval = 100 * time.Millisecond
	// smoothing is the time over which a rate forgets.
	smoothing = time.Second
)

// progress calls a function one at a time. A nil progress calls nobody.
type progress struct {
	mu     sync.Mutex
	call   func(containerizer.Progress)
	layers map[digest.Digest]*layerProgress
}

// layerProgress is what was reported of a layer.
type layerProgress struct {
	containerizer.Progress
	at time.Time
}

func newProgress(call func(containerizer.Progress)) *progress {
	if call == nil {
		return nil
	}
	return &progress{call: call, layers: map[digest.Digest]*layerProgress{}}
}

// layer is the state of a layer. The caller holds mu.
func (p *progress) layer(d v1.Descriptor) *layerProgress {
	l := p.layers[d.Digest]
	if l == nil {
		l = &layerProgress{Progress: containerizer.Progress{Layer: d.Digest, Total: d.Size}}
		p.layers[d.Digest] = l
	}
	return l
}

// phase reports that a layer has entered a phase, with n bytes.
func (p *progress) phase(d v1.Descriptor, phase containerizer.Phase, n int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.layer(d)
	l.Phase, l.Done, l.Rate = phase, n, 0
	p.call(l.Progress)
}

func (p *progress) waiting(d v1.Descriptor) { p.phase(d, containerizer.PhaseWaiting, 0) }

func (p *progress) done(d v1.Descriptor, phase containerizer.Phase) { p.phase(d, phase, d.Size) }

// bytes tells how far a layer is, not too often. from may tell who sends it.
func (p *progress) bytes(d v1.Descriptor, phase containerizer.Phase, n int64, from any) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l, now := p.layer(d), time.Now()
	since := now.Sub(l.at)
	if l.Phase == phase && since < interval {
		return
	}
	if s, ok := from.(containerizer.BlobSource); ok {
		l.Source, l.Retries = s.Source()
	}
	if l.Phase == phase {
		l.advance(n, since)
	}
	l.Phase, l.Done, l.at = phase, n, now
	p.call(l.Progress)
}

// advance takes the last bytes into the rate; what is older counts less and less.
func (l *layerProgress) advance(n int64, since time.Duration) {
	rate := float64(n-l.Done) / since.Seconds()
	if old := float64(l.Rate); old > 0 {
		weight := min(1, since.Seconds()/smoothing.Seconds())
		rate = old + (rate-old)*weight
	}
	l.Rate = int64(rate)
}

// existing reports all layers of an image that is there.
func (p *progress) existing(i *store.Image) {
	for _, l := range i.Layers {
		p.done(l.Blob, containerizer.PhaseExists)
	}
}
