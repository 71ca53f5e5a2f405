package apply

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/ulikunitz/xz"

	"github.com/berth-dev/berth/containerizer"
)

// decompress finds out the compression by the content: that of layers, bzip2 and xz.
func (a *archive) decompress(in io.Reader) (io.ReadCloser, error) {
	count := &counter{r: in}
	br := bufio.NewReaderSize(count, 256<<10)
	head, err := br.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the archive: %w", err)
	}
	var z io.ReadCloser
	switch {
	case bytes.HasPrefix(head, []byte("BZh")):
		z = io.NopCloser(&corrupting{bzip2.NewReader(br), "bzip2"})
	case bytes.Equal(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		x, err := xz.NewReader(br)
		if err != nil {
			return nil, corrupt("xz", err)
		}
		z = io.NopCloser(&corrupting{x, "xz"})
	default:
		if z, err = decompressor(br); err != nil {
			return nil, err
		}
	}
	return &bounded{ReadCloser: z, in: count, a: a}, nil
}

// corrupting gives the errors of a decompressor their class.
type corrupting struct {
	r    io.Reader
	what string
}

func (c *corrupting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = corrupt(c.what, err)
	}
	return n, err
}

// bounded stops a stream that inflates too much.
type bounded struct {
	io.ReadCloser
	in  *counter
	out int64
	a   *archive
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.out += int64(n)
	if rerr := b.a.checkRatio(b.out, b.in.n); rerr != nil {
		return 0, rerr
	}
	return n, err
}

func (a *archive) checkRatio(out, in int64) error {
	if l := a.limits; out > l.RatioAfter && out/l.Ratio > in {
		return fmt.Errorf("the archive inflates more than %d-fold, which its policy does not allow: %w", l.Ratio, containerizer.ErrResourceExhausted)
	}
	return nil
}
