package interp

import (
	"errors"
	"syscall"
	"unsafe"

	"github.com/berth-dev/berth/containerizer/launch/program"
)

// Child is the process of a program. It is the caller's child in the sense of
// wait(2).
type Child struct {
	PID int
	// PidFD refers to the process (pidfd_open(2)); Close closes it.
	PidFD int
	// Pty is the master of the pseudo terminal that the program opened, or -1. It is
	// set by Progress; the caller owns it.
	Pty int

	image  *Image
	socket int
	// borrowed says that this process has the child's OOM score for the time being.
	borrowed bool
}

// Progress is how far a program has come.
type Progress uint8

const (
	// ProgressPending is no news.
	ProgressPending Progress = iota
	// ProgressBarrier is a process that waits at the barrier for Release.
	ProgressBarrier
	// ProgressHeld is a process that waits before execve for Release.
	ProgressHeld
	// ProgressRunning is a process whose execve was done. It is the last.
	ProgressRunning
	// ProgressFailed is an operation that failed; the process has ended. It is the last.
	ProgressFailed
)

// What a program sends on its progress socket: one byte each, MessagePty with the
// master in a control message.
const (
	MessageBarrier = 'B'
	MessageHeld    = 'H'
	MessagePty     = 'P'
)

// ProgressFD is readable when Progress has news. It is closed by Close.
func (c *Child) ProgressFD() int { return c.socket }

// Progress returns what has become of the program, without waiting.
func (c *Child) Progress() (Progress, program.Failure) {
	for {
		var message [1]byte
		n, fd, err := receive(c.socket, message[:])
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return ProgressPending, program.Failure{}
		case err != nil || n == 0:
			return c.outcome()
		case message[0] == MessagePty:
			if fd >= 0 {
				c.Pty = fd
			}
		case message[0] == MessageBarrier:
			return ProgressBarrier, program.Failure{}
		case message[0] == MessageHeld:
			return ProgressHeld, program.Failure{}
		}
	}
}

// outcome reads the shared program after the child's end of the socket is closed,
// which execve and exit both do.
func (c *Child) outcome() (Progress, program.Failure) {
	h := c.image.header
	c.returnScore()
	if h.Failed != 0 {
		return ProgressFailed, program.Failure{Op: h.Failed - 1, Errno: syscall.Errno(h.Errno)}
	}
	if !c.image.executes(h.Current) {
		return ProgressFailed, program.Failure{Op: KilledOp, Errno: syscall.ESRCH}
	}
	return ProgressRunning, program.Failure{}
}

// executes says whether operation i is an execve.
func (im *Image) executes(i uint32) bool {
	at := im.header.Layout().Ops + int(i)*program.OpSize
	nr := (*program.Op)(unsafe.Pointer(&im.block[at])).NR
	return nr == syscall.SYS_EXECVE || nr == sysExecveat
}

// Release lets a process at the barrier, or held, go on.
func (c *Child) Release() error {
	one := [1]byte{'G'}
	_, err := syscall.Write(c.socket, one[:])
	return err
}

// Close closes the descriptors of c, except Pty. The process is left alone.
func (c *Child) Close() error {
	c.returnScore()
	for _, fd := range []*int{&c.socket, &c.PidFD} {
		if *fd >= 0 {
			_ = syscall.Close(*fd)
			*fd = -1
		}
	}
	return nil
}

// receive reads one message and at most one descriptor, without waiting.
func receive(socket int, p []byte) (n, fd int, err error) {
	var control [32]byte
	n, controlLen, _, _, err := syscall.Recvmsg(socket, p, control[:], syscall.MSG_DONTWAIT|syscall.MSG_CMSG_CLOEXEC)
	if err != nil || controlLen < syscall.CmsgLen(4) {
		return n, -1, err
	}
	header := (*syscall.Cmsghdr)(unsafe.Pointer(&control[0]))
	if header.Level != syscall.SOL_SOCKET || header.Type != syscall.SCM_RIGHTS {
		return n, -1, nil
	}
	return n, int(*(*int32)(unsafe.Pointer(&control[syscall.CmsgLen(0)]))), nil
}
