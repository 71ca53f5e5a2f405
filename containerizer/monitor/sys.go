package monitor

import (
	"errors"
	"syscall"
	"unsafe"
)

// System calls that package syscall does not wrap, or wraps with allocations.

const (
	sysEventfd2        = 290 - 271*isARM64
	sysPidfdSendSignal = 424
	sysPidfdOpen       = 434
	sysCloseRange      = 436

	prSetDumpable       = 4
	prSetChildSubreaper = 36
	prSetTHPDisable     = 41

	madvNoHugePage = 15

	epollET = 1 << 31
)

func prctl(option, value uintptr) syscall.Errno {
	_, _, e := syscall.RawSyscall6(syscall.SYS_PRCTL, option, value, 0, 0, 0, 0)
	return e
}

// closeFrom closes all descriptors from first on.
func closeFrom(first uintptr) syscall.Errno {
	_, _, e := syscall.RawSyscall(sysCloseRange, first, uintptr(^uint32(0)), 0)
	return e
}

func eventfd() (int, syscall.Errno) {
	fd, _, e := syscall.RawSyscall(sysEventfd2, 0, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	return int(fd), e
}

// now is the time of day.
func now() (second, nanosecond int64) { return clock(0) }

// monotonic is the time since boot in nanoseconds.
func monotonic() int64 {
	second, nanosecond := clock(1)
	return second*1e9 + nanosecond
}

func clock(id uintptr) (second, nanosecond int64) {
	var ts syscall.Timespec
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&ts)), 0) // these clocks always answer
	return ts.Sec, ts.Nsec
}

// wallNanoseconds is the time of day in nanoseconds since 1970.
func wallNanoseconds() uint64 {
	second, nanosecond := now()
	return uint64(second)*1e9 + uint64(nanosecond)
}

// read reads without waiting from a descriptor with O_NONBLOCK.
func read(fd int, b []byte) (int, syscall.Errno) {
	for {
		n, _, e := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		if e != syscall.EINTR {
			return int(n), e
		}
	}
}

// write is the counterpart of read.
func write(fd int, b []byte) (int, syscall.Errno) {
	for {
		n, _, e := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		if e != syscall.EINTR {
			return int(n), e
		}
	}
}

// receive takes one frame from a socket. Descriptors come in the control message;
// truncated says that there were more than could be taken.
func receive(fd int, b, control []byte) (n, controlSize int, truncated bool, e syscall.Errno) {
	iov := syscall.Iovec{Base: &b[0], Len: uint64(len(b))}
	msg := syscall.Msghdr{Iov: &iov, Iovlen: 1, Control: &control[0], Controllen: uint64(len(control))}
	for {
		r, _, e := syscall.RawSyscall(syscall.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), syscall.MSG_DONTWAIT|syscall.MSG_CMSG_CLOEXEC)
		if e == syscall.EINTR {
			continue
		}
		if e != 0 {
			return 0, 0, false, e
		}
		cut := msg.Flags&(syscall.MSG_CTRUNC|syscall.MSG_TRUNC) != 0
		return int(r), int(msg.Controllen), cut, 0
	}
}

// send sends the two parts of a frame, with descriptors.
func send(fd int, head, tail, control []byte) syscall.Errno {
	iov := [2]syscall.Iovec{
		{Base: unsafe.SliceData(head), Len: uint64(len(head))},
		{Base: unsafe.SliceData(tail), Len: uint64(len(tail))},
	}
	msg := syscall.Msghdr{Iov: &iov[0], Iovlen: 2, Control: unsafe.SliceData(control), Controllen: uint64(len(control))}
	if len(tail) == 0 {
		msg.Iovlen = 1
	}
	for {
		_, _, e := syscall.RawSyscall(syscall.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
		if e != syscall.EINTR {
			return e
		}
	}
}

// peerUID is the user at the other end of a socket when it connected.
func peerUID(fd int) (uint32, syscall.Errno) {
	var cred syscall.Ucred
	size := uint32(unsafe.Sizeof(cred))
	_, _, e := syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, uintptr(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED,
		uintptr(unsafe.Pointer(&cred)), uintptr(unsafe.Pointer(&size)), 0)
	return cred.Uid, e
}

func accept(fd int) (int, syscall.Errno) {
	r, _, e := syscall.RawSyscall6(syscall.SYS_ACCEPT4, uintptr(fd), 0, 0, syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0, 0)
	return int(r), e
}

// wait reaps one child, whichever it is: pid 0 when none has ended.
func wait() (pid int, status uint32) {
	var ws int32
	for {
		r, _, e := syscall.RawSyscall6(syscall.SYS_WAIT4, ^uintptr(0), uintptr(unsafe.Pointer(&ws)), syscall.WNOHANG|syscall.WALL, 0, 0, 0)
		if e == syscall.EINTR {
			continue
		}
		if e != 0 {
			return 0, 0
		}
		return int(r), uint32(ws)
	}
}

// signalProcess sends a signal to the process of a pidfd.
func signalProcess(pidfd int, signal uint8) syscall.Errno {
	_, _, e := syscall.RawSyscall6(sysPidfdSendSignal, uintptr(pidfd), uintptr(signal), 0, 0, 0, 0)
	return e
}

func ioctl(fd int, request, arg uintptr) syscall.Errno {
	_, _, e := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(fd), request, arg)
	return e
}

// errno is the number in err, or EIO.
func errno(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return e
	}
	return syscall.EIO
}

// closeIt closes a descriptor. Nothing can be done about an error of close(2), and
// what matters has been written by then.
func closeIt(fd int) { _ = syscall.Close(fd) }

// closeFD closes a descriptor once.
func closeFD(fd *int) {
	if *fd >= 0 {
		closeIt(*fd)
		*fd = -1
	}
}
