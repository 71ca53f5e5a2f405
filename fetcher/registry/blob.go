package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/registry/hosts"
)

const (
	// maxSkip is how much is read again and thrown away when a registry ignores a range.
	maxSkip = 4 << 20
	// minProgress is how much has to come between two failures for the second one to
	// count as the first.
	minProgress = 64 << 10
	// maxStrikes is how often a host may break off before another one is asked.
	maxStrikes = 2
)

// blob is a download that carries on where a connection broke, at another host if
// it has to.
type blob struct {
	origin *Origin
	ctx    context.Context //nolint:containedctx // the reader's life is one call's
	d      v1.Descriptor
	what   string

	flow     *flow
	at       *endpoint // who sends it
	from     int64     // where the caller began
	off      int64
	mark     int64 // where off was at the last failure
	failed   int   // times in a row
	retried  int   // times in all
	strikes  map[*endpoint]int
	patience patience
}

// connect requests the blob from off on.
func (b *blob) connect() error {
	q := &question{what: b.what, need: hosts.Pull, avoid: func(e *endpoint) bool { return b.strikes[e] >= maxStrikes }}
	return b.origin.try(b.ctx, q, b.open)
}

func (b *blob) open(e *endpoint, limit time.Duration) error {
	header := http.Header{}
	if b.off > 0 {
		spec := "bytes=" + strconv.FormatInt(b.off, 10) + "-"
		if b.d.Size > 0 { // some registries do not know ranges without an end
			spec += strconv.FormatInt(b.d.Size-1, 10)
		}
		header.Set("Range", spec)
	}
	resp, err := e.get(b.ctx, b.what, "/blobs/"+string(b.d.Digest), header, limit)
	if err != nil {
		return err
	}
	f := newFlow(resp.Body, b.origin.client.o.Stall)
	if err := b.check(resp, f); err != nil {
		f.close()
		return err
	}
	b.flow, b.at = f, e
	b.origin.serves(b.d.Digest, e)
	return nil
}

// check makes sure that the response is the rest of the blob.
func (b *blob) check(resp *http.Response, f *flow) error {
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent {
		return statusError(b.what, resp)
	}
	if err := checkEncoding(b.what, resp); err != nil {
		return err
	}
	if resp.StatusCode == http.StatusPartialContent {
		first, _, total, err := contentRange(resp.Header.Get("Content-Range"))
		if err != nil || first != b.off || total >= 0 && b.d.Size > 0 && total != b.d.Size {
			return &lie{fmt.Errorf("%s: the registry answered a request from byte %d on with %.80q: %w", b.what, b.off, resp.Header.Get("Content-Range"), containerizer.ErrUnavailable)}
		}
		return nil
	}
	if b.d.Size > 0 && resp.ContentLength >= 0 && resp.ContentLength != b.d.Size {
		return b.wrongSize(resp.ContentLength)
	}
	if b.off > maxSkip {
		class := containerizer.ErrUnavailable
		if b.off == b.from {
			class = containerizer.ErrUnsupported
		}
		return fmt.Errorf("%s: %d bytes are there and the registry cannot carry on behind them: %w", b.what, b.off, class)
	}
	if _, err := io.CopyN(io.Discard, f, b.off); err != nil {
		return temporary(b.what, err)
	}
	return nil
}

func (b *blob) wrongSize(have int64) error {
	return &lie{fmt.Errorf("%s: the registry has %d bytes, the manifest says %d: %w", b.what, have, b.d.Size, containerizer.ErrDataCorrupt)}
}

func (b *blob) disconnect() {
	if b.flow != nil {
		b.flow.close()
		b.flow = nil
	}
}

func (b *blob) Read(p []byte) (int, error) {
	for {
		if b.flow == nil {
			if err := b.connect(); err != nil {
				return 0, err
			}
		}
		if b.d.Size > 0 && b.off > b.d.Size {
			return 0, fmt.Errorf("%s: the registry sends more than the %d bytes that the manifest says: %w", b.what, b.d.Size, containerizer.ErrDataCorrupt)
		}
		n, err := b.flow.Read(p)
		b.off += int64(n)
		if n > 0 {
			return n, nil // an error comes again
		}
		if errors.Is(err, io.EOF) && (b.d.Size <= 0 || b.off >= b.d.Size) {
			return 0, io.EOF
		}
		if err == nil {
			continue
		}
		if err := b.interrupted(err); err != nil {
			return 0, err
		}
	}
}

// interrupted decides whether to carry on after a broken connection. The first
// time it is taken up again at once.
func (b *blob) interrupted(err error) error {
	stalled := b.flow.stalled.Load()
	b.disconnect()
	if b.ctx.Err() != nil {
		return context.Cause(b.ctx)
	}
	if b.off-b.mark >= minProgress {
		b.failed, b.strikes, b.patience = 0, nil, patience{client: b.origin.client}
	}
	b.mark = b.off
	if b.strikes == nil {
		b.strikes = map[*endpoint]int{}
	}
	b.strikes[b.at]++
	if stalled {
		b.strikes[b.at] = maxStrikes
	}
	b.retried++
	if b.failed++; b.failed == 1 {
		return nil
	}
	return b.patience.more(b.ctx, fmt.Errorf("%s: at byte %d of %d: %w: %w", b.what, b.off, b.d.Size, err, containerizer.ErrUnavailable), 0)
}

// Close ends the download.
func (b *blob) Close() error {
	b.disconnect()
	return nil
}

// Source says who sends the blob: the registry or a mirror.
func (b *blob) Source() (host string, retries int) {
	if b.at == nil {
		return b.origin.ref.Domain, b.retried
	}
	return b.at.host, b.retried
}
