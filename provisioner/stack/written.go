package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

const (
	// maxDepth bounds the directories that are open at a time. What lies deeper, which
	// no path can name, is not counted.
	maxDepth = 1024
	// maxShared bounds the files with several names that are remembered, so that they
	// count once; further ones count with each name.
	maxShared = 1 << 16
	// namesAtOnce bounds how much of a directory is in memory.
	namesAtOnce = 512
)

// Written measures what is in the directory dir, itself not counted, as du(1) does:
// blocks, and files with several names once. Containers may change it meanwhile, and
// cannot make it look elsewhere: links are not followed.
func Written(ctx context.Context, dir string) (containerizer.DiskUsage, error) {
	w := writer{ctx: ctx, shared: map[uint64]bool{}}
	fd, err := unix.Open(dir, dirFlags, 0)
	if err != nil {
		return w.DiskUsage, fmt.Errorf("open %q: %w", dir, err)
	}
	if err := w.dir(fd, 0); err != nil {
		return w.DiskUsage, fmt.Errorf("measure %q: %w", dir, err)
	}
	return w.DiskUsage, nil
}

// writer adds up what was written.
type writer struct {
	containerizer.DiskUsage

	ctx    context.Context //nolint:containedctx // of one call of Written
	shared map[uint64]bool
}

// dir counts what is in the directory fd, and closes it.
func (w *writer) dir(fd, depth int) error {
	f := os.NewFile(uintptr(fd), "directory")
	defer func() { _ = f.Close() }() // only read
	for {
		if w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		names, err := f.Readdirnames(namesAtOnce)
		for _, name := range names {
			if err := w.node(fd, name, depth); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || gone(err) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// gone says whether err is that of something removed, or replaced, meanwhile.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

func (w *writer) node(dir int, name string, depth int) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if gone(err) {
			return nil
		}
		return err
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if !isDir && st.Nlink > 1 {
		if w.shared[st.Ino] {
			return nil
		}
		if len(w.shared) < maxShared {
			w.shared[st.Ino] = true
		}
	}
	w.Inodes++
	w.Bytes += uint64(max(st.Blocks, 0)) * 512
	if !isDir || depth+1 >= maxDepth {
		return nil
	}
	fd, err := unix.Openat(dir, name, dirFlags, 0)
	if err != nil {
		if gone(err) {
			return nil
		}
		return err
	}
	return w.dir(fd, depth+1)
}
