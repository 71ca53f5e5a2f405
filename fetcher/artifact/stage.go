package artifact

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/uri"
)

// stagePrefix begins the names of directories under construction.
const stagePrefix = ".berth-fetch-"

const openDir = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// stage is a directory in the destination, for what is not yet in its place. Its lock
// says that somebody works in it.
type stage struct {
	dest *os.File
	dir  *os.File
}

// newStage makes a stage in dir, an absolute path.
func newStage(dir string) (*stage, error) {
	dest, err := os.OpenFile(dir, unix.O_DIRECTORY|os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("open the directory for artifacts: %w", class(err))
	}
	s := &stage{dest: dest}
	s.sweep()
	for {
		ok, err := s.make()
		if err != nil {
			_ = dest.Close() // a directory
			return nil, fmt.Errorf("make a directory in %q: %w", dir, class(err))
		}
		if ok {
			return s, nil
		}
	}
}

// make is false when a sweeper was between the making and the lock.
func (s *stage) make() (bool, error) {
	name := stagePrefix + random()
	if err := unix.Mkdirat(int(s.dest.Fd()), name, 0o700); err != nil {
		return false, err
	}
	fd, err := unix.Openat(int(s.dest.Fd()), name, openDir, 0)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var st unix.Stat_t
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil || unix.Fstat(fd, &st) != nil || st.Nlink == 0 {
		return false, unix.Close(fd)
	}
	s.dir = os.NewFile(uintptr(fd), filepath.Join(s.dest.Name(), name))
	return true, nil
}

func random() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	return hex.EncodeToString(b[:])
}

func class(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%w: %w", err, containerizer.ErrNotFound)
	case errors.Is(err, os.ErrPermission), errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w: %w", err, containerizer.ErrPermission)
	}
	return uri.DiskError(err)
}

// sweep removes the stages of processes that are dead. One that was only just made
// may not be locked yet: its maker makes another.
func (s *stage) sweep() {
	names, err := s.dest.Readdirnames(-1)
	if err != nil {
		return // the next fetch tries again
	}
	for _, name := range names {
		if !strings.HasPrefix(name, stagePrefix) {
			continue
		}
		fd, err := unix.Openat(int(s.dest.Fd()), name, openDir, 0)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && int(st.Uid) == os.Geteuid() && st.Mode&0o777 == 0o700 &&
			unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.RemoveAll(filepath.Join(s.dest.Name(), name)) // the next fetch tries again
		}
		_ = unix.Close(fd) // a directory
	}
}

// remove removes the stage with what is left in it.
func (s *stage) remove() error {
	err := os.RemoveAll(s.dir.Name())
	_, _ = s.dir.Close(), s.dest.Close() // directories
	if err != nil {
		return fmt.Errorf("remove %q: %w", s.dir.Name(), err)
	}
	return nil
}

// create makes a file.
func (s *stage) create(name string) (*os.File, error) {
	fd, err := unix.Openat(int(s.dir.Fd()), name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a file for a download: %w", class(err))
	}
	return os.NewFile(uintptr(fd), filepath.Join(s.dir.Name(), name)), nil
}

// mkdir makes a directory.
func (s *stage) mkdir(name string) (*os.File, error) {
	if err := unix.Mkdirat(int(s.dir.Fd()), name, 0o700); err != nil {
		return nil, fmt.Errorf("make a directory to extract in: %w", class(err))
	}
	fd, err := unix.Openat(int(s.dir.Fd()), name, openDir, 0)
	if err != nil {
		return nil, fmt.Errorf("open the directory to extract in: %w", err)
	}
	return os.NewFile(uintptr(fd), filepath.Join(s.dir.Name(), name)), nil
}

// copy makes a file with the content of another, sharing its blocks where the file
// system can.
func (s *stage) copy(name string, from *os.File) error {
	to, err := s.create(name)
	if err != nil {
		return err
	}
	if err = unix.IoctlFileClone(int(to.Fd()), int(from.Fd())); err != nil {
		if _, err = from.Seek(0, io.SeekStart); err == nil {
			_, err = io.Copy(to, from) // copy_file_range(2) where possible
		}
	}
	if err = errors.Join(err, to.Close()); err != nil {
		return fmt.Errorf("copy out of the cache: %w", uri.DiskError(err))
	}
	return nil
}
