package apply

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dropCapabilities leaves keptCapabilities in all threads. The bounding set stays:
// it says what execve(2) may give, which the filter of system calls does not allow
// and no_new_privs makes harmless. To drop it would interrupt all threads forty
// times, which took longer than the rest of the child's start.
func dropCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: uint32(keptCapabilities & (1<<32 - 1)), Permitted: uint32(keptCapabilities & (1<<32 - 1))}}
	data[1] = unix.CapUserData{Effective: keptCapabilities >> 32, Permitted: keptCapabilities >> 32}
	if err := everyThread(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data)), 0); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	runtime.KeepAlive(&header)
	runtime.KeepAlive(&data)
	return nil
}

// everyThread makes a system call in all threads of the process. Binaries with
// cgo, which are only ones built for the race detector, cannot do that: there it
// is made in the calling thread, and the seccomp filter alone holds the others.
func everyThread(trap, a1, a2, a3 uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall(trap, a1, a2, a3)
	if errno == syscall.ENOTSUP {
		_, _, errno = syscall.RawSyscall(trap, a1, a2, a3)
	}
	if errno != 0 {
		return errno
	}
	return nil
}
