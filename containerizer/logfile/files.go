package logfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// files opens the log at path and its rotated files ("PATH.1" is the one before,
// "PATH.2" before that), oldest first. A log that does not exist yet has none.
func files(path string) ([]*os.File, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var numbers []int
	prefix := filepath.Base(path) + "."
	for _, e := range entries {
		if suffix, ok := strings.CutPrefix(e.Name(), prefix); ok {
			if n, err := strconv.Atoi(suffix); err == nil && n > 0 {
				numbers = append(numbers, n)
			}
		}
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	var out []*os.File
	for _, n := range append(numbers, 0) {
		name := path
		if n > 0 {
			name += "." + strconv.Itoa(n)
		}
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // rotated away between the two calls, or not there yet
		}
		if err != nil {
			closeAll(out)
			return nil, err
		}
		out = append(out, f)
	}
	return dedupe(out), nil
}

// dedupe drops a file that was rotated while the list was made and so was opened
// under two names.
func dedupe(in []*os.File) []*os.File {
	var out []*os.File
	for _, f := range in {
		if len(out) > 0 && sameFile(out[len(out)-1], f) {
			_ = f.Close()
			continue
		}
		out = append(out, f)
	}
	return out
}

func sameFile(a, b *os.File) bool {
	x, errX := a.Stat()
	y, errY := b.Stat()
	return errX == nil && errY == nil && os.SameFile(x, y)
}

func closeAll(list []*os.File) {
	for _, f := range list {
		_ = f.Close()
	}
}
