package apply

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/unpack/inflate"
)

const (
	maxZstdWindow = 128 << 20
	// peekSize is less than package inflate reads at once, so that it reads past the
	// buffer in which we looked at the first bytes.
	peekSize = 4 << 10
	// bufferSize is for who reads little at a time.
	bufferSize = 64 << 10
)

// decompressor finds out the compression by the content, as every other runtime
// does; the media type is only a hint.
func decompressor(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, peekSize)
	head, err := br.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the layer: %w", err)
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzipReader{inflate.New(br)}, nil
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}), len(head) == 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:], []byte{0x2a, 0x4d, 0x18}):
		d, err := zstd.NewReader(bufio.NewReaderSize(br, bufferSize), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, corrupt("zstd", err)
		}
		return &zstdReader{d}, nil
	case bytes.HasPrefix(head, []byte("BZh")), bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X'}):
		return nil, fmt.Errorf("the layer is compressed with bzip2 or xz; gzip, zstd and none are possible: %w", containerizer.ErrUnsupported)
	}
	return io.NopCloser(bufio.NewReaderSize(br, bufferSize)), nil
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

type gzipReader struct{ *inflate.Reader }

func (z gzipReader) Read(p []byte) (int, error) {
	n, err := z.Reader.Read(p)
	var fault *inflate.CorruptError
	switch {
	case err == nil, errors.Is(err, io.EOF):
	case errors.As(err, &fault), errors.Is(err, io.ErrUnexpectedEOF):
		err = corrupt("gzip", err)
	default:
		err = fmt.Errorf("read the layer: %w", err)
	}
	return n, err
}

// Close does nothing: the decoder holds memory only.
func (gzipReader) Close() error { return nil }
