package provisioner

import (
	"context"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/provisioner/stack"
)

// Tidy deletes what was given up, but no more than budget files and directories,
// so that it is quick. It tells what waits for a Sweep: images and layers that are
// not known to be on disk yet, and things given up that still take space.
func (p *Provisioner) Tidy(budget int) (pending, trash int) { return p.store.Tidy(budget) }

// makeLists lists the files of new layers. It reads all of them, mostly out of the
// page cache.
func (p *Provisioner) makeLists(ctx context.Context) error {
	return yielding(func() error { return p.store.MakeLists(ctx, stack.List) })
}

// deleteTrash deletes what was given up, and what killed processes left. No pull is to
// feel it: sweep waits for the pulls, or does not do it.
func (p *Provisioner) deleteTrash(ctx context.Context, sweep func(context.Context) error) error {
	return yielding(func() error { return sweep(ctx) })
}

// yielding does work that gives way to everything else.
func yielding(work func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine: its priority is its own
		yieldToOthers()
		done <- work()
	}()
	return <-done
}

// ioprioIdle is IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0) (ioprio_set(2)).
const ioprioIdle = 3 << 13

// yieldToOthers lowers the priority of this thread. Where that is refused, it just
// is not lower.
func yieldToOthers() {
	const self, lowest = 0, 19
	_ = unix.Setpriority(unix.PRIO_PROCESS, self, lowest)
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, 1, self, ioprioIdle)
}
