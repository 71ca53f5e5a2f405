package volume

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
)

// DirSize is what the files below dir take on disk; files with several links
// count once.
func DirSize(dir string) (int64, error) {
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	var total int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		if key := (inode{uint64(st.Dev), st.Ino}); !seen[key] { //nolint:unconvert // differs by platform
			seen[key] = true
			total += st.Blocks * 512
		}
		return nil
	})
	return total, err
}
