package apply

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// allowed are the system calls of unpacking and of the Go runtime.
func allowed() []uint32 {
	return append([]uint32{
		// files
		unix.SYS_READ, unix.SYS_WRITE, unix.SYS_CLOSE, unix.SYS_LSEEK, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE,
		unix.SYS_OPENAT, unix.SYS_OPENAT2, unix.SYS_MKDIRAT, unix.SYS_MKNODAT, unix.SYS_SYMLINKAT, unix.SYS_LINKAT,
		unix.SYS_UNLINKAT, unix.SYS_READLINKAT, unix.SYS_GETDENTS64, unix.SYS_FSTAT, unix.SYS_STATX,
		unix.SYS_FCHOWN, unix.SYS_FCHOWNAT, unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_UTIMENSAT, unix.SYS_FSETXATTR,
		unix.SYS_FCNTL,
		// the Go runtime
		unix.SYS_MUNMAP, unix.SYS_MPROTECT, unix.SYS_MADVISE, unix.SYS_BRK, unix.SYS_MINCORE,
		unix.SYS_FUTEX, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_SCHED_YIELD,
		unix.SYS_SCHED_GETAFFINITY, unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_TGKILL,
		unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK,
		unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_RESTART_SYSCALL, unix.SYS_GETRANDOM, unix.SYS_RSEQ,
		unix.SYS_SET_ROBUST_LIST, unix.SYS_SET_TID_ADDRESS,
		unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2, unix.SYS_PIPE2,
		unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_DELETE, unix.SYS_SETITIMER,
	}, allowedHere()...)
}

// Offsets in struct seccomp_data.
const (
	offNr   = 0
	offArch = 4
	offArg0 = 16
	offArg3 = offArg0 + 3*8 // its low half, on machines like these
)

func filter() []unix.SockFilter {
	stmt := func(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }
	jump := func(k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: yes, Jf: no, K: k}
	}
	const load = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	const ret = unix.BPF_RET | unix.BPF_K
	refuse := func(e unix.Errno) unix.SockFilter { return stmt(ret, unix.SECCOMP_RET_ERRNO|uint32(e)) }

	f := []unix.SockFilter{
		stmt(load, offArch),
		jump(auditArch, 1, 0),
		stmt(ret, unix.SECCOMP_RET_KILL_PROCESS),
		stmt(load, offNr),
		// The runtime clones threads; a new process is not wanted. clone3 hides its
		// flags from filters, so callers are sent to clone.
		jump(unix.SYS_CLONE3, 0, 1),
		refuse(unix.ENOSYS),
		jump(unix.SYS_CLONE, 0, 4),
		stmt(load, offArg0),
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, Jt: 0, Jf: 1, K: unix.CLONE_THREAD},
		stmt(ret, unix.SECCOMP_RET_ALLOW),
		refuse(unix.EPERM),
		// RLIMIT_DATA counts private memory only; nothing here needs to share any.
		jump(unix.SYS_MMAP, 0, 4),
		stmt(load, offArg3),
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, Jt: 1, Jf: 0, K: unix.MAP_SHARED},
		stmt(ret, unix.SECCOMP_RET_ALLOW),
		refuse(unix.EPERM),
	}
	for _, nr := range allowed() {
		f = append(f, jump(nr, 0, 1), stmt(ret, unix.SECCOMP_RET_ALLOW))
	}
	return append(f, refuse(unix.EPERM))
}

// filterSyscalls lets all threads make the allowed calls only, for good.
func filterSyscalls() error {
	// Without CAP_SYS_ADMIN the thread that installs the filter must have no new
	// privileges itself; the others get both from it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl(PR_SET_NO_NEW_PRIVS): %w", err)
	}
	f := filter()
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	r, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("install the seccomp filter: %w", errno)
	}
	if r != 0 {
		return fmt.Errorf("install the seccomp filter: thread %d has another one", r)
	}
	return nil
}
