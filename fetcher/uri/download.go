package uri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

const (
	bufferSize = 256 << 10
	// maxPause bounds what another side may ask us to wait.
	maxPause = 2 * time.Minute
)

// Downloader downloads. The zero value works.
type Downloader struct {
	// Retries is how often a download is taken up again that made no progress; 0 is 4.
	Retries int
	// Backoff is the first pause between repetitions, which doubles; 0 is 500 ms.
	Backoff time.Duration
	// Stall is how long nothing may come before the connection is given up; 0 is one
	// minute.
	Stall time.Duration
}

// Outcome is how a download ended.
type Outcome struct {
	// NotModified says that nothing was downloaded: the version of the request is
	// current.
	NotModified bool
	// Version of what was downloaded.
	Version string
}

// Download reads what r names into p. When p has bytes already, they are of
// r.Version. progress, when not nil, is told of every piece. Errors are those of
// Scheme.Open and of the sink, and ErrDataCorrupt for more bytes than were announced.
func (d *Downloader) Download(ctx context.Context, s Scheme, r Request, p *Part, progress func(done, total int64)) (Outcome, error) {
	run := &download{d: d, scheme: s, r: r, p: p, progress: progress}
	run.r.Offset = p.Size()
	for failed := 0; ; failed++ {
		had := p.Size()
		out, err := run.attempt(ctx)
		if err == nil {
			return out, nil
		}
		if ctx.Err() != nil {
			return out, fmt.Errorf("fetch %q: %w", r.Reference, context.Cause(ctx))
		}
		t, ok := asTemporary(err)
		if !ok {
			return out, err
		}
		if p.Size() > had {
			failed = 0
		}
		if failed >= or(d.Retries, 4) {
			return out, t.Err
		}
		if err := d.pause(ctx, failed, t.After); err != nil {
			return out, errors.Join(err, t.Err)
		}
	}
}

func or[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

func (d *Downloader) pause(ctx context.Context, attempt int, after time.Duration) error {
	wait := max(min(or(d.Backoff, 500*time.Millisecond)<<attempt, 30*time.Second), min(after, maxPause))
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// download is one run of Download.
type download struct {
	d        *Downloader
	scheme   Scheme
	r        Request // Offset and Version follow what came
	p        *Part
	progress func(done, total int64)
}

// attempt opens once and reads as far as it gets.
func (x *download) attempt(parent context.Context) (Outcome, error) {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	stall := or(x.d.Stall, time.Minute)
	var stalled atomic.Bool
	timer := time.AfterFunc(stall, func() { stalled.Store(true); cancel() })
	defer timer.Stop()
	explain := func(err error) error {
		if stalled.Load() && parent.Err() == nil {
			return Broken(fmt.Sprintf("fetch %q", x.r.Reference), fmt.Errorf("nothing came for %v (at byte %d)", stall, x.p.Size()))
		}
		return err
	}
	resp, err := x.scheme.Open(ctx, x.r)
	if err != nil {
		return Outcome{}, explain(err)
	}
	if resp.NotModified {
		return Outcome{NotModified: true, Version: x.r.Version}, nil
	}
	defer func() { _ = resp.Body.Close() }() // read only
	timer.Stop()                             // making room may take a while
	if err := x.begin(resp); err != nil {
		return Outcome{}, err
	}
	if err := x.copy(resp, timer, stall); err != nil {
		return Outcome{}, explain(err)
	}
	return Outcome{Version: resp.Version}, nil
}

// begin checks the answer against the request.
func (x *download) begin(resp *Response) error {
	what := fmt.Sprintf("fetch %q", x.r.Reference)
	if resp.Offset != 0 && resp.Offset != x.r.Offset {
		return fmt.Errorf("%s: a request from byte %d on was answered from byte %d on: %w", what, x.r.Offset, resp.Offset, containerizer.ErrUnavailable)
	}
	if resp.Offset != 0 && (resp.Version != x.r.Version || resp.Size >= 0 && resp.Size < resp.Offset) {
		x.r.Offset, x.r.Version = 0, ""
		return Broken(what, fmt.Errorf("it changed at byte %d of the download", resp.Offset))
	}
	if err := x.p.begin(resp.Offset, resp.Size, resp.Version); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	x.r.Version = resp.Version
	x.follow()
	return nil
}

// follow lets the next request begin where this one is. Without a version nobody
// could tell whether the rest belongs to what is there.
func (x *download) follow() {
	x.r.Offset = x.p.Size()
	if x.r.Version == "" {
		x.r.Offset = 0
	}
	if x.r.Offset == 0 {
		x.r.Version = "" // it is not there: NotModified would be no answer
	}
}

func (x *download) copy(resp *Response, timer *time.Timer, stall time.Duration) error {
	what := fmt.Sprintf("fetch %q", x.r.Reference)
	version := resp.Version
	buf := make([]byte, bufferSize)
	for {
		timer.Reset(stall)
		n, err := resp.Body.Read(buf)
		timer.Stop() // the time that the disk takes does not count
		if n > 0 {
			if resp.Size >= 0 && x.p.Size()+int64(n) > resp.Size {
				return fmt.Errorf("%s: more than the %d bytes come that were announced: %w", what, resp.Size, containerizer.ErrDataCorrupt)
			}
			if err := x.p.write(buf[:n]); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			x.r.Version = version
			x.follow()
			x.report(resp.Size)
		}
		switch {
		case err == nil:
		case !errors.Is(err, io.EOF):
			if _, ok := asTemporary(err); ok || errors.Is(err, errPermanent) {
				return err
			}
			return Broken(what, fmt.Errorf("at byte %d: %w", x.p.Size(), err))
		case resp.Size >= 0 && x.p.Size() < resp.Size:
			return Broken(what, fmt.Errorf("the content ends at byte %d of %d", x.p.Size(), resp.Size))
		default:
			x.report(x.p.Size())
			return nil
		}
	}
}

// errPermanent is in errors of a body that end a download.
var errPermanent = errors.New("the transfer cannot be repeated")

// Permanent marks an error of a body as one that repeating does not help against.
func Permanent(err error) error { return &permanent{err} }

type permanent struct{ error }

func (p *permanent) Unwrap() []error { return []error{p.error, errPermanent} }

func (x *download) report(total int64) {
	if x.progress != nil {
		x.progress(x.p.Size(), total)
	}
}
