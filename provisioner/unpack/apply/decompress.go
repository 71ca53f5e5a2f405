package apply

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/berth-dev/berth/containerizer"
)

const (
	maxZstdWindow = 128 << 20
	// maxMembers of one gzip stream: each costs a header for possibly no content.
	maxMembers = 1 << 20
)

// decompressor finds out the compression by the content, as every other runtime
// does; the media type is only a hint.
func decompressor(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 256<<10)
	head, err := br.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the layer: %w", err)
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, corrupt("gzip", err)
		}
		z.Multistream(false)
		return &members{src: br, z: z}, nil
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}), len(head) == 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:], []byte{0x2a, 0x4d, 0x18}):
		d, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, corrupt("zstd", err)
		}
		return &zstdReader{d}, nil
	case bytes.HasPrefix(head, []byte("BZh")), bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X'}):
		return nil, fmt.Errorf("the layer is compressed with bzip2 or xz; gzip, zstd and none are possible: %w", containerizer.ErrUnsupported)
	}
	return io.NopCloser(br), nil
}

func corrupt(what string, err error) error {
	return fmt.Errorf("decompress the layer (%s): %w: %w", what, err, containerizer.ErrDataCorrupt)
}

type zstdReader struct{ *zstd.Decoder }

func (z *zstdReader) Read(p []byte) (int, error) {
	n, err := z.Decoder.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = corrupt("zstd", err)
	}
	return n, err
}

// Close frees the decoder.
func (z *zstdReader) Close() error { z.Decoder.Close(); return nil }

// members reads concatenated gzip members, and accepts zeros after the last one
// as gzip(1) does.
type members struct {
	src *bufio.Reader
	z   *gzip.Reader
	n   int
}

func (m *members) Read(p []byte) (int, error) {
	for {
		n, err := m.z.Read(p)
		if n > 0 || err == nil {
			return n, nil
		}
		if !errors.Is(err, io.EOF) {
			return 0, corrupt("gzip", err)
		}
		if err := m.next(); err != nil {
			return 0, err
		}
	}
}

func (m *members) next() error {
	m.n++
	head, err := m.src.Peek(2)
	switch {
	case len(head) == 0 && errors.Is(err, io.EOF):
		return io.EOF
	case err != nil && !errors.Is(err, io.EOF):
		return err
	case head[0] == 0:
		return m.zeros()
	case m.n >= maxMembers:
		return fmt.Errorf("the layer has more than %d gzip members: %w", maxMembers, containerizer.ErrResourceExhausted)
	}
	if err := m.z.Reset(m.src); err != nil {
		return corrupt("gzip", err)
	}
	m.z.Multistream(false)
	return nil
}

func (m *members) zeros() error {
	for {
		b, err := m.src.ReadByte()
		if err != nil {
			return err
		}
		if b != 0 {
			return corrupt("gzip", errors.New("garbage after the last member"))
		}
	}
}

// Close frees the decoder.
func (m *members) Close() error { return m.z.Close() }
