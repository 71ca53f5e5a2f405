package recordio

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/berth-dev/berth/containerizer"
)

// maxDigits is what the length of the largest uint32 has. More is not read.
const maxDigits = 10

// Reader reads records. It is used from one goroutine at a time.
type Reader struct {
	in  *bufio.Reader
	max int
}

// NewReader returns a reader of records of at most limit bytes.
func NewReader(in io.Reader, limit int) *Reader { return &Reader{in: bufio.NewReader(in), max: limit} }

// Next returns the next record, and io.EOF where another could begin but none does.
// What is no record is ErrInvalid, a longer one than possible ErrResourceExhausted; a
// stream that ends in the middle of one is io.ErrUnexpectedEOF.
func (r *Reader) Next() ([]byte, error) {
	size, err := r.size()
	if err != nil {
		return nil, err
	}
	if size > r.max {
		return nil, fmt.Errorf("a record has %d bytes, at most %d are possible: %w", size, r.max, containerizer.ErrResourceExhausted)
	}
	record := make([]byte, size)
	if _, err := io.ReadFull(r.in, record); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read a record of %d bytes: %w", size, err)
	}
	return record, nil
}

// size reads up to the line feed.
func (r *Reader) size() (int, error) {
	var digits []byte
	for {
		b, err := r.in.ReadByte()
		switch {
		case errors.Is(err, io.EOF) && len(digits) == 0:
			return 0, io.EOF
		case errors.Is(err, io.EOF):
			return 0, fmt.Errorf("read the length of a record: %w", io.ErrUnexpectedEOF)
		case err != nil:
			return 0, fmt.Errorf("read the length of a record: %w", err)
		case b == '\n' && len(digits) > 0:
			size, err := strconv.ParseUint(string(digits), 10, 32)
			if err != nil {
				return 0, fmt.Errorf("length %q of a record: %w", digits, containerizer.ErrInvalid)
			}
			return int(size), nil //nolint:gosec // 32 bits
		case b < '0' || b > '9' || len(digits) == maxDigits:
			return 0, fmt.Errorf("the length of a record begins %q, and %q follows (up to %d digits and a line feed do): %w", digits, b, maxDigits, containerizer.ErrInvalid)
		}
		digits = append(digits, b)
	}
}

// Append appends record in its frame to b.
func Append(b, record []byte) []byte {
	b = strconv.AppendInt(b, int64(len(record)), 10)
	b = append(b, '\n')
	return append(b, record...)
}
