package apply

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/unpack"
)

const (
	chunkSize = 256 << 10
	chunks    = 6 // in flight between the inflater and the unpacker
)

// counter counts what passes.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

type chunk struct {
	data []byte
	err  error // the last chunk's; io.EOF at the proper end
}

// stream is the decompressed layer. The decompressor runs in a goroutine of its
// own, chunks ahead of the reader; the reader's side hashes.
type stream struct {
	full  chan chunk
	empty chan []byte
	quit  chan struct{}

	sum  hash.Hash
	n    int64
	cur  []byte
	buf  []byte // cur's whole buffer
	done error
}

func newStream(src io.Reader, limits unpack.Limits) *stream {
	s := &stream{
		full:  make(chan chunk, chunks),
		empty: make(chan []byte, chunks),
		quit:  make(chan struct{}),
		sum:   sha256.New(),
	}
	for range chunks {
		s.empty <- make([]byte, chunkSize)
	}
	go s.produce(src, limits)
	return s
}

// produce decompresses until the end, an error, or close. It owns full.
func (s *stream) produce(src io.Reader, limits unpack.Limits) {
	defer close(s.full)
	in := &counter{r: src}
	z, err := decompressor(in)
	if err != nil {
		s.full <- chunk{err: err}
		return
	}
	defer func() { _ = z.Close() }() // all that counts was read
	var out int64
	for err == nil {
		var buf []byte
		select {
		case buf = <-s.empty:
		case <-s.quit:
			return
		}
		var n int
		n, err = io.ReadFull(z, buf)
		// ReadFull's own, at the proper end; the decompressors' are wrapped.
		if errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, containerizer.ErrDataCorrupt) {
			err = io.EOF
		}
		out += int64(n)
		if out > limits.RatioAfter && out/limits.Ratio > in.n {
			err = fmt.Errorf("the layer inflates more than %d-fold, which its policy does not allow: %w", limits.Ratio, containerizer.ErrResourceExhausted)
		}
		s.full <- chunk{data: buf[:n], err: err} // never blocks: as many places as buffers
	}
}

func (s *stream) Read(p []byte) (int, error) {
	for len(s.cur) == 0 {
		if s.done != nil {
			return 0, s.done
		}
		if s.buf != nil {
			s.empty <- s.buf[:chunkSize]
			s.buf = nil
		}
		c := <-s.full
		s.cur, s.buf, s.done = c.data, c.data, c.err
		if cap(s.buf) == 0 {
			s.buf = nil
		}
		_, _ = s.sum.Write(c.data) // never fails (hash.Hash)
		s.n += int64(len(c.data))
	}
	n := copy(p, s.cur)
	s.cur = s.cur[n:]
	return n, nil
}

// finish reads what is left, and returns the digest of everything.
func (s *stream) finish() (digest.Digest, int64, error) {
	if _, err := io.Copy(io.Discard, s); err != nil {
		return "", 0, err
	}
	return digest.Digest("sha256:" + hex.EncodeToString(s.sum.Sum(nil))), s.n, nil
}

// close tells the goroutine to end. It does so as soon as its source returns:
// waiting for that here would let a stalled source hold up an error.
func (s *stream) close() { close(s.quit) }
