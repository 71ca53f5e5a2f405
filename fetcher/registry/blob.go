package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
)

// maxSkip is how much is read again and thrown away when a registry ignores a range.
const maxSkip = 4 << 20

// blob is a download that carries on where a connection broke.
type blob struct {
	origin *Origin
	ctx    context.Context //nolint:containedctx // the reader's life is one call's
	d      v1.Descriptor
	what   string

	body    io.ReadCloser
	cancel  context.CancelFunc
	stalled *atomic.Bool
	timer   *time.Timer
	from    int64 // where the caller began
	off     int64
	failed  int // times in a row without a byte
}

// connect requests the blob from off on.
func (b *blob) connect() error {
	ctx, cancel := context.WithCancel(b.ctx)
	b.cancel = cancel
	header := http.Header{}
	if b.off > 0 {
		spec := "bytes=" + strconv.FormatInt(b.off, 10) + "-"
		if b.d.Size > 0 { // some registries do not know ranges without an end
			spec += strconv.FormatInt(b.d.Size-1, 10)
		}
		header.Set("Range", spec)
	}
	resp, err := b.origin.get(ctx, b.what, "/blobs/"+string(b.d.Digest), header)
	if err != nil {
		cancel()
		return err
	}
	b.body = resp.Body
	if err := b.check(resp); err != nil {
		b.disconnect()
		return err
	}
	stalled := &atomic.Bool{}
	b.stalled = stalled
	b.timer = time.AfterFunc(b.origin.client.o.Stall, func() { stalled.Store(true); cancel() })
	return nil
}

// check makes sure that the response is the rest of the blob.
func (b *blob) check(resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusOK:
		if b.d.Size > 0 && resp.ContentLength >= 0 && resp.ContentLength != b.d.Size {
			return fmt.Errorf("%s: the registry has %d bytes, the manifest says %d: %w", b.what, resp.ContentLength, b.d.Size, containerizer.ErrDataCorrupt)
		}
		if b.off == 0 {
			return nil
		}
		if b.off > maxSkip {
			class := containerizer.ErrUnavailable
			if b.off == b.from {
				class = containerizer.ErrUnsupported
			}
			return fmt.Errorf("%s: %d bytes are there and the registry cannot carry on behind them: %w", b.what, b.off, class)
		}
		if _, err := io.CopyN(io.Discard, resp.Body, b.off); err != nil {
			return temporary(b.what, err)
		}
		return nil
	case http.StatusPartialContent:
		first, total, err := contentRange(resp.Header.Get("Content-Range"))
		if err != nil || first != b.off || total >= 0 && b.d.Size > 0 && total != b.d.Size {
			return fmt.Errorf("%s: the registry answered a request from byte %d on with %q: %w", b.what, b.off, resp.Header.Get("Content-Range"), containerizer.ErrUnavailable)
		}
		return nil
	}
	return statusError(b.what, resp)
}

func (b *blob) disconnect() {
	if b.timer != nil {
		b.timer.Stop()
	}
	if b.cancel != nil {
		b.cancel()
	}
	if b.body != nil {
		_ = b.body.Close() // nothing of it is wanted any more
		b.body = nil
	}
}

func (b *blob) Read(p []byte) (int, error) {
	for {
		if b.body == nil {
			if err := b.reconnect(); err != nil {
				return 0, err
			}
		}
		if b.d.Size > 0 && b.off > b.d.Size {
			return 0, fmt.Errorf("%s: the registry sends more than the %d bytes that the manifest says: %w", b.what, b.d.Size, containerizer.ErrDataCorrupt)
		}
		b.timer.Reset(b.origin.client.o.Stall)
		n, err := b.body.Read(p)
		b.timer.Stop() // the time that the caller takes does not count
		b.off += int64(n)
		if n > 0 {
			b.failed = 0
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

// interrupted decides whether to carry on after a broken connection.
func (b *blob) interrupted(err error) error {
	b.disconnect()
	if b.ctx.Err() != nil {
		return context.Cause(b.ctx)
	}
	if b.stalled.Load() {
		err = fmt.Errorf("nothing came for %v", b.origin.client.o.Stall)
	}
	if b.failed++; b.failed > b.origin.client.o.Retries {
		return fmt.Errorf("%s: at byte %d of %d: %w: %w", b.what, b.off, b.d.Size, err, containerizer.ErrUnavailable)
	}
	return nil
}

func (b *blob) reconnect() error {
	if err := b.origin.client.pause(b.ctx, b.failed-1, 0); err != nil {
		return err
	}
	return b.origin.client.retry(b.ctx, b.connect)
}

// Close ends the download.
func (b *blob) Close() error {
	b.disconnect()
	return nil
}
