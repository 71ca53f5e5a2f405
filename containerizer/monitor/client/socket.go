package client

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// socket is a SOCK_SEQPACKET connection that waits in the Go poller.
type socket struct {
	file *os.File
	raw  syscall.RawConn
}

// newSocket owns fd, which does not block, from now on.
func newSocket(fd int) (*socket, error) {
	f := os.NewFile(uintptr(fd), "berth-monitor socket")
	raw, err := f.SyscallConn()
	if err != nil {
		_ = f.Close() // the error is told
		return nil, err
	}
	return &socket{f, raw}, nil
}

// dial connects to the socket of the monitor in dir.
func dial(dir string) (*socket, error) {
	dirFD, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("monitor directory %q: %w", dir, containerizer.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", dir, err)
	}
	defer closeAll([]int{dirFD})
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	// The path may be longer than an address can be.
	address := &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dirFD, wire.SocketName)}
	if err := unix.Connect(fd, address); err != nil {
		_ = unix.Close(fd) // the error is told
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
			return nil, fmt.Errorf("no monitor listens in %q: %w", dir, containerizer.ErrNotFound)
		}
		return nil, fmt.Errorf("connect to the monitor in %q: %w", dir, err)
	}
	return newSocket(fd)
}

// send sends one frame, and descriptors with it.
func (s *socket) send(frame []byte, fds []int) error {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	var sendErr error
	err := s.raw.Write(func(fd uintptr) bool {
		for {
			sendErr = unix.Sendmsg(int(fd), frame, rights, nil, unix.MSG_NOSIGNAL)
			if sendErr != unix.EINTR {
				return sendErr != unix.EAGAIN
			}
		}
	})
	if err == nil {
		err = sendErr
	}
	return err
}

// buffers are for frames. A connection has one only while there is something to be
// read: a daemon has hundreds that are silent for days.
//
//nolint:gochecknoglobals // has no state
var buffers = sync.Pool{New: func() any { return new([wire.MaxFrame]byte) }}

// receive takes one frame. The descriptors are the caller's, who gives the buffer back.
// n is 0 at the end.
func (s *socket) receive() (b *[wire.MaxFrame]byte, n int, fds []int, err error) {
	var control [256]byte // room for the descriptors of a Namespaces frame
	var controlLen int
	var receiveErr error
	err = s.raw.Read(func(fd uintptr) bool {
		b, _ = buffers.Get().(*[wire.MaxFrame]byte)
		for {
			n, controlLen, _, _, receiveErr = unix.Recvmsg(int(fd), b[:], control[:], unix.MSG_CMSG_CLOEXEC)
			if receiveErr == unix.EINTR {
				continue
			}
			if receiveErr == unix.EAGAIN {
				buffers.Put(b)
				b = nil
				return false
			}
			return true
		}
	})
	if err == nil {
		err = receiveErr
	}
	if err != nil || controlLen == 0 {
		return b, n, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:controlLen])
	if err != nil {
		return b, 0, nil, err
	}
	for i := range messages {
		if more, err := unix.ParseUnixRights(&messages[i]); err == nil {
			fds = append(fds, more...)
		}
	}
	return b, n, fds, nil
}

func (s *socket) close() error { return s.file.Close() }
