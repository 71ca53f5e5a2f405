package inflate

import (
	"fmt"
	"io"
)

// CorruptError says what in a stream is not gzip.
type CorruptError struct {
	Offset int64  // in the compressed stream, of the byte where it was noticed
	Member int64  // of the stream, from 1
	Reason string // such as "the checksum does not match the content"
}

// Error says all of it.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("gzip member %d, at byte %d: %s", e.Member, e.Offset, e.Reason)
}

func (r *Reader) corrupt(format string, args ...any) error {
	return &CorruptError{Offset: r.offset(), Member: r.members, Reason: fmt.Sprintf(format, args...)}
}

// truncated is the error where src ends within a member.
func (r *Reader) truncated() error {
	return fmt.Errorf("gzip member %d ends at byte %d, before it is complete: %w", max(r.members, 1), r.passed+int64(r.end), io.ErrUnexpectedEOF)
}
