package apply

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dropCapabilities leaves keptCapabilities in all threads. What the parent took
// from the bounding set already is not dropped again: each drop interrupts all
// threads, twice the rest of the child's start for the forty of them.
func dropCapabilities() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for c := uintptr(unix.CAP_LAST_CAP); ; c-- {
		if c == unix.CAP_SETPCAP { // needed for the others
			continue
		}
		if err := dropBound(c); err != nil {
			return err
		}
		if c == 0 {
			break
		}
	}
	if err := dropBound(unix.CAP_SETPCAP); err != nil {
		return err
	}
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

// dropBound takes a capability that is not to be kept out of the bounding set.
func dropBound(c uintptr) error {
	if keptCapabilities>>c&1 == 1 {
		return nil
	}
	// All threads have the set that the process started with.
	if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err == nil && has == 0 {
		return nil
	}
	if err := everyThread(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("drop capability %d from the bounding set: %w", c, err)
	}
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
