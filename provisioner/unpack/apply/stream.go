package apply

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime"

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

// inflated decompresses a layer, and stops one that inflates too much.
type inflated struct {
	in     counter
	z      io.ReadCloser // nil before the first bytes
	out    int64
	limits unpack.Limits
}

// Read finds out the compression when it is called first.
func (i *inflated) Read(p []byte) (n int, err error) {
	if i.z == nil {
		if i.z, err = decompressor(&i.in); err != nil {
			return 0, err
		}
	}
	n, err = i.z.Read(p)
	i.out += int64(n)
	if i.out > i.limits.RatioAfter && i.out/i.limits.Ratio > i.in.n {
		err = fmt.Errorf("the layer inflates more than %d-fold, which its policy does not allow: %w", i.limits.Ratio, containerizer.ErrResourceExhausted)
	}
	return n, err
}

func (i *inflated) close() {
	if i.z != nil {
		_ = i.z.Close() // all that counts was read
	}
}

// stream is the decompressed layer; the reader's side hashes. With more than one
// processor the decompressor runs in a goroutine of its own, chunks ahead of the
// reader. With one that would only move the bytes out of the processor's cache.
type stream struct {
	src   inflated
	full  chan chunk // nil without a goroutine
	empty chan []byte
	quit  chan struct{}

	sum  hash.Hash
	n    int64
	cur  []byte
	buf  []byte // cur's whole buffer
	done error
}

func newStream(src io.Reader, limits unpack.Limits) *stream {
	s := &stream{src: inflated{in: counter{r: src}, limits: limits}, sum: sha256.New()}
	if single(limits) {
		return s
	}
	s.full, s.empty, s.quit = make(chan chunk, chunks), make(chan []byte, chunks), make(chan struct{})
	for range chunks {
		s.empty <- make([]byte, chunkSize)
	}
	go s.produce()
	return s
}

// single says whether threads of this process would only wait for each other.
func single(l unpack.Limits) bool {
	return l.Processors == 1 || l.Processors == 0 && runtime.NumCPU() == 1
}

// produce decompresses until the end, an error, or close. It owns full and src.
func (s *stream) produce() {
	defer close(s.full)
	defer s.src.close()
	for {
		var buf []byte
		select {
		case buf = <-s.empty:
		case <-s.quit:
			return
		}
		n, err := io.ReadFull(&s.src, buf)
		// ReadFull's own, at the proper end; the decompressors' are wrapped.
		if errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, containerizer.ErrDataCorrupt) {
			err = io.EOF
		}
		s.full <- chunk{data: buf[:n], err: err} // never blocks: as many places as buffers
		if err != nil {
			return
		}
	}
}

func (s *stream) Read(p []byte) (int, error) {
	if s.full == nil {
		return s.readDirectly(p)
	}
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
		s.take(c.data)
	}
	n := copy(p, s.cur)
	s.cur = s.cur[n:]
	return n, nil
}

// readDirectly is Read without a goroutine.
func (s *stream) readDirectly(p []byte) (int, error) {
	if s.done != nil {
		return 0, s.done
	}
	var n int
	n, s.done = s.src.Read(p)
	s.take(p[:n])
	if n > 0 {
		return n, nil // an error comes again
	}
	return 0, s.done
}

// take accounts for the next bytes.
func (s *stream) take(p []byte) {
	_, _ = s.sum.Write(p) // never fails (hash.Hash)
	s.n += int64(len(p))
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
func (s *stream) close() {
	if s.quit == nil {
		s.src.close()
		return
	}
	close(s.quit)
}
