package unpack

import (
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// timerSlack is how much later than asked for the kernel may wake the child. The Go
// runtime's own watcher would wake a thousand times a second in a process that waits
// and works in turn, each time for 20 us of sleep: beside the work itself that was a
// tenth of a pull's processor time. Nothing in the child depends on time.
const timerSlack = 5e6 // nanoseconds

// startCoarse starts cmd with that slack, which a process has from the thread that
// made it and keeps over execve(2) (PR_SET_TIMERSLACK(2const)).
func startCoarse(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	old, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0) != nil {
		return cmd.Start() // only slower
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(old), 0, 0, 0) }() // worked a moment ago
	return cmd.Start()
}
