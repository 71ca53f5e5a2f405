package unpack

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// KeptCapabilities are those that the child keeps: what making files of any owner
// needs.
const KeptCapabilities = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER |
	1<<unix.CAP_FSETID | 1<<unix.CAP_MKNOD | 1<<unix.CAP_SETFCAP

// startCapabilities are those that the child begins with: it also makes its root,
// and gives up capabilities.
const startCapabilities = KeptCapabilities | 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SYS_CHROOT | 1<<unix.CAP_SETPCAP

// bounded calls start in a thread of its own whose bounding set is startCapabilities,
// for processes started there. The child does what failed here itself, at a price.
func bounded(start func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
			if startCapabilities>>c&1 == 0 {
				_ = unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0) // see above
			}
		}
		result <- start()
	}()
	return <-result
}
