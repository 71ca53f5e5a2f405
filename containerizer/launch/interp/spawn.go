package interp

import (
	"errors"
	"runtime"
	"syscall"
	"unsafe"

	"github.com/berth-dev/berth/containerizer/launch/program"
)

// errInputs is returned by Spawn for a wrong number of descriptors.
var errInputs = errors.New("launch program: number of input descriptors differs from the program's")

// Spawn clones the program's process, with fds as its input descriptors in order.
// The descriptors stay the caller's and may be closed at once. It returns when the
// process exists, without waiting for what it does. The process is a child of the
// caller and must be waited for, also when it fails. An error of type *StageError
// is a failure of the program before its last process existed.
func (im *Image) Spawn(fds []int) (*Child, error) {
	h := im.header
	if len(fds) != int(h.Inputs) {
		return nil, errInputs
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = syscall.Close(pair[1]) }()
	im.setSlot(0, pair[1])
	for i, fd := range fds {
		im.setSlot(i+1, fd)
	}
	im.planClosing(pair[1], fds)
	c := &Child{image: im, socket: pair[0], PidFD: -1, Pty: -1}
	if err := c.start(h, fds); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// StageError is a failure of a program whose child does not exist any more.
type StageError struct{ program.Failure }

func (e *StageError) Error() string { return "launch program: " + e.Errno.Error() }

func (c *Child) start(h *program.Header, fds []int) error {
	pidfd := int32(-1)
	args := cloneArgs{
		flags:      h.CloneFlags | clonePidfd | cloneClearSighand,
		pidfd:      uint64(uintptr(unsafe.Pointer(&pidfd))),
		exitSignal: uint64(syscall.SIGCHLD),
		stack:      h.Stack - stackSize,
		stackSize:  stackSize,
	}
	if h.Copy == 0 {
		args.flags |= cloneVM
	}
	if h.CgroupSlot != program.None {
		args.flags |= cloneIntoCgroup
		args.cgroup = uint64(fds[h.CgroupSlot-1])
	}
	if h.HasOOMScoreAdj != 0 {
		if err := c.borrowScore(int(h.OOMScoreAdj)); err != nil {
			return &StageError{program.Failure{Op: OOMScoreOp, Errno: errnoOf(err)}}
		}
	}
	pid, errno := cloneBlocked(&args, h)
	if errno != 0 {
		return &StageError{program.Failure{Op: CloneOp, Errno: errno}}
	}
	c.PID, c.PidFD = pid, int(pidfd)
	if h.Staged != 0 {
		if err := c.secondStage(h); err != nil {
			return err
		}
	}
	if h.UIDMap.Length == 0 && h.GIDMap.Length == 0 {
		return nil
	}
	err := c.writeIDMaps(h)
	if err == nil {
		err = c.raiseLimits(h)
	}
	if err != nil {
		c.kill()
		return err
	}
	return c.Release()
}

// Operation numbers that are not in the program.
const (
	// CloneOp is the first clone, IDMapOp the writing of the id maps.
	CloneOp = 0xffff_fff0 + iota
	IDMapOp
	// KilledOp is a child that ended before its execve for no failure of its own.
	KilledOp
	// OOMScoreOp is setting the OOM score adjustment, RlimitOp a limit set by the
	// parent.
	OOMScoreOp
	RlimitOp
)

// cloneBlocked makes the clone with all signals blocked, so that none is delivered
// to the child on the parent's stack or handlers. Nothing in it lets the scheduler
// in, so the goroutine stays on its thread without LockOSThread, which would start
// a further thread (runtime.startTemplateThread).
//
//go:nosplit
//go:norace
func cloneBlocked(args *cloneArgs, h *program.Header) (pid int, errno syscall.Errno) {
	all, old := ^uint64(0), uint64(0)
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigSetMask, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), 8, 0, 0)
	r, e := rawClone(args, unsafe.Sizeof(*args), h, 0, runPC())
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigSetMask, uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
	runtime.KeepAlive(args)
	return int(r), syscall.Errno(e)
}

const sigSetMask = 2

// secondStage waits for the first process, which ends as soon as it has made the
// second, and makes the second one the child.
func (c *Child) secondStage(h *program.Header) error {
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(c.PID, &status, syscall.WALL, nil)
		if err == nil {
			break
		}
		if err != syscall.EINTR {
			return err
		}
	}
	_ = syscall.Close(c.PidFD)
	c.PidFD = -1
	first := c.PID
	c.PID = int(h.SpawnedPID)
	if c.PID == 0 {
		if h.Failed != 0 {
			return &StageError{program.Failure{Op: h.Failed - 1, Errno: syscall.Errno(h.Errno)}}
		}
		c.PID = first
		return &StageError{program.Failure{Op: KilledOp, Errno: syscall.ESRCH}}
	}
	fd, _, e := syscall.Syscall(sysPidfdOpen, uintptr(c.PID), 0, 0)
	if e != 0 {
		return e
	}
	c.PidFD = int(fd)
	return nil
}

const (
	sysPidfdSendSignal = 424
	sysPidfdOpen       = 434
)

// writeIDMaps writes the uid and gid maps of the process's user namespace.
func (c *Child) writeIDMaps(h *program.Header) error {
	data := unsafe.Pointer(&c.image.block[h.Layout().Data])
	for _, m := range []struct {
		file string
		span program.Span
	}{{"uid_map", h.UIDMap}, {"gid_map", h.GIDMap}} {
		text := unsafe.Slice((*byte)(unsafe.Add(data, m.span.Offset)), m.span.Length)
		fd, err := syscall.Open("/proc/"+itoa(c.PID)+"/"+m.file, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
		if err == nil {
			_, err = syscall.Write(fd, text)
			_ = syscall.Close(fd)
		}
		if err != nil {
			return &StageError{program.Failure{Op: IDMapOp, Errno: errnoOf(err)}}
		}
	}
	return nil
}

// raiseLimits sets the limits that the root of a user namespace may not raise.
func (c *Child) raiseLimits(h *program.Header) error {
	data := unsafe.Pointer(&c.image.block[h.Layout().Data])
	for at := h.Rlimits.Offset; at < h.Rlimits.Offset+h.Rlimits.Length; at += 24 {
		limit := unsafe.Add(data, at)
		_, _, e := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(c.PID), uintptr(*(*uint64)(limit)), uintptr(unsafe.Add(limit, 8)), 0, 0, 0)
		if e != 0 {
			return &StageError{program.Failure{Op: RlimitOp, Errno: e}}
		}
	}
	return nil
}

// errnoOf is the errno of an error of package syscall.
func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	_ = errors.As(err, &errno) // 0 for another error
	return errno
}

// kill ends the child and reaps it.
func (c *Child) kill() {
	_, _, _ = syscall.Syscall6(sysPidfdSendSignal, uintptr(c.PidFD), uintptr(syscall.SIGKILL), 0, 0, 0, 0)
	for {
		_, err := syscall.Wait4(c.PID, nil, syscall.WALL, nil)
		if err != syscall.EINTR {
			return
		}
	}
}
