package cgroup

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Control files are read and written with plain system calls: os.File would try
// to register each with the poller, which costs as much as the write.

// retry repeats a system call that a signal of Go's scheduler interrupted.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func open(file string, flags int) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Open(file, flags|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: file, Err: err}
	}
	return fd, nil
}

// writeFile writes value in one write(2), as control files demand.
func writeFile(file, value string) error {
	fd, err := open(file, unix.O_WRONLY)
	if err != nil {
		return err
	}
	err = retry(func() error {
		_, err := unix.Write(fd, []byte(value))
		return err
	})
	_ = unix.Close(fd) // nothing is buffered
	if err != nil {
		return &os.PathError{Op: "write " + strconv.Quote(value) + " to", Path: file, Err: err}
	}
	return nil
}

// readFile reads a control file, without the last newline.
func readFile(file string) (string, error) {
	fd, err := open(file, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Close(fd) }()
	return readAll(fd, file)
}

// readAll reads a control file from its begin, wherever that was read to before.
func readAll(fd int, file string) (string, error) {
	var stack [4096]byte
	buf := stack[:0]
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		var n int
		err := retry(func() (err error) {
			n, err = unix.Pread(fd, buf[len(buf):cap(buf)], int64(len(buf)))
			return err
		})
		if err != nil {
			return "", &os.PathError{Op: "read", Path: file, Err: err}
		}
		if n <= 0 {
			return strings.TrimSuffix(string(buf), "\n"), nil
		}
		buf = buf[:len(buf)+n]
	}
}

// readPIDs reads a cgroup.procs file.
func readPIDs(file string) ([]int, error) {
	s, err := readFile(file)
	if err != nil {
		return nil, err
	}
	return parsePIDs(s)
}

func exists(file string) bool {
	return retry(func() error { return unix.Access(file, unix.F_OK) }) == nil
}

func mkdir(dir string) error {
	if err := retry(func() error { return unix.Mkdir(dir, 0o755) }); err != nil {
		return &os.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	return nil
}

func rmdir(dir string) error {
	if err := retry(func() error { return unix.Rmdir(dir) }); err != nil {
		return &os.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// subdirs lists the names of the groups directly below dir.
func subdirs(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
