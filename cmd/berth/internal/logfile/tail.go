package logfile

import (
	"bytes"
	"io"
	"os"
)

const tailBlock = 64 << 10

// seekTail positions list so that reading it in order gives the last n lines, and
// returns the files that are to be read.
func seekTail(list []*os.File, n int) ([]*os.File, error) {
	for i := len(list) - 1; i >= 0; i-- {
		offset, found, err := tailOffset(list[i], n)
		if err != nil {
			return nil, err
		}
		if n -= found; offset > 0 {
			if _, err := list[i].Seek(offset, io.SeekStart); err != nil {
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
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	end := info.Size()
	var rest []byte // of the record whose beginning was not read yet
	last := end     // offset just behind the record being looked at
	for pos := end; pos > 0; {
		size := min(pos, tailBlock)
		pos -= size
		block := make([]byte, size, int(size)+len(rest))
		if _, err := f.ReadAt(block, pos); err != nil && err != io.EOF {
			return 0, 0, err
		}
		data := append(block, rest...)
		for {
			i := bytes.LastIndexByte(trimNewline(data), '\n')
			if i < 0 {
				break
			}
			record := data[i+1:]
			if isFull(trimNewline(record)) {
				if found == n {
					return last, found, nil
				}
				found++
			}
			data, last = data[:i+1], pos+int64(i)+1
		}
		rest = data
	}
	if len(rest) > 0 && isFull(trimNewline(rest)) {
		if found == n {
			return last, found, nil
		}
		found++
	}
	return 0, found, nil
}

func trimNewline(b []byte) []byte { return bytes.TrimSuffix(b, []byte("\n")) }
