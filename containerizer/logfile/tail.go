package logfile

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"os"
	"slices"
)

const tailBlock = 64 << 10

// seekTail positions list so that reading it in order gives the last n lines, and
// returns the files that are to be read.
func seekTail(list []*os.File, n int) ([]*os.File, error) {
	for i, f := range slices.Backward(list) {
		offset, found, err := tailOffset(f, n)
		if err != nil {
			return nil, err
		}
		if n -= found; offset > 0 {
			if _, err := f.Seek(offset, io.SeekStart); err != nil {
				return nil, err
			}
			return list[i:], nil
		}
	}
	return list, nil
}

// tailOffset returns where the last n lines of f begin, and how many of them f
// has; 0 when they may begin in the file before. Lines are counted by their last
// records, so that a line in several records stays whole.
func tailOffset(f *os.File, n int) (offset int64, found int, err error) {
	for record, end := range backward(f, &err) {
		if !isFull(trimNewline(record)) {
			continue
		}
		if found == n {
			return end, found, nil
		}
		found++
	}
	return 0, found, err
}

// backward yields the records of f from the last to the first, each with the
// offset just behind it. What fails is told in err.
func backward(f *os.File, err *error) iter.Seq2[[]byte, int64] {
	return func(yield func([]byte, int64) bool) {
		info, statErr := f.Stat()
		if *err = statErr; statErr != nil {
			return
		}
		var rest []byte // of the record whose beginning was not read yet
		end := info.Size()
		for pos := end; pos > 0; {
			if rest, pos, *err = blockBefore(f, pos, rest); *err != nil {
				return
			}
			for i := lastRecord(rest); i > 0; i = lastRecord(rest) {
				if !yield(rest[i:], end) {
					return
				}
				rest, end = rest[:i], pos+int64(i)
			}
		}
		if len(rest) > 0 {
			yield(rest, end)
		}
	}
}

// blockBefore reads a block that ends at pos and puts it before rest.
func blockBefore(f *os.File, pos int64, rest []byte) (data []byte, start int64, err error) {
	start = max(pos-tailBlock, 0)
	data = make([]byte, pos-start, int(pos-start)+len(rest))
	if _, err := f.ReadAt(data, start); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	return append(data, rest...), start, nil
}

// lastRecord is where the last record of data begins.
func lastRecord(data []byte) int { return bytes.LastIndexByte(trimNewline(data), '\n') + 1 }

func trimNewline(b []byte) []byte { return bytes.TrimSuffix(b, []byte("\n")) }
