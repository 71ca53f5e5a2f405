// Package rawfile reads and writes small regular files and files of /proc with the system
// calls that this takes and no more.
//
// An os.File costs four besides: it asks for the flags of the descriptor, sets them, tries to
// register it with epoll, and gives it back. A launch reads and writes some dozens of
// records, and these were a tenth of the time of a daemon that launches as fast as it can.
// Nothing here waits for anything but a disk; pipes, terminals and sockets belong to
// package os.
package rawfile

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// mode of what is written: records are root's.
const mode = 0o600

// Read returns what is in a file, as [os.ReadFile] does.
func Read(path string) (_ []byte, err error) {
	fd, err := open(path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd) //nolint:errcheck // only read
	b := make([]byte, 0, 1024)
	for {
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return b, nil
		}
		b = b[:len(b)+n]
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
}

// Write makes path a file with b, or replaces what is in it, as [os.WriteFile] does.
func Write(path string, b []byte) error {
	fd, err := open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
	if err != nil {
		return err
	}
	return finish(fd, path, b)
}

// Replace makes path a file with b in one step: it is seen as it was, or whole. What a
// killed process leaves begins with a dot and the name.
func Replace(path string, b []byte) error {
	dir, name := filepath.Split(path)
	for {
		aside := dir + "." + name + "-" + strconv.FormatUint(rand.Uint64(), 36)
		fd, err := open(aside, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
		if err != nil {
			if errors.Is(err, fs.ErrExist) {
				continue
			}
			return err
		}
		err = finish(fd, aside, b)
		if err == nil {
			if err = unix.Rename(aside, path); err == nil {
				return nil
			}
			err = &fs.PathError{Op: "rename", Path: path, Err: err}
		}
		_ = unix.Unlink(aside) // the first error counts
		return err
	}
}

func open(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, mode)
		if err == nil {
			return fd, nil
		}
		if err != unix.EINTR {
			return -1, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// finish writes all of b, and closes.
func finish(fd int, path string, b []byte) (err error) {
	for len(b) > 0 && err == nil {
		var n int
		n, err = unix.Write(fd, b)
		b = b[max(n, 0):]
		if err == unix.EINTR {
			err = nil
		}
	}
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	if err != nil {
		return &fs.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}
