package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Open file description locks (fcntl(2), F_OFD_SETLK) rather than flock(2): they
// can be asked about without taking them, so that readers disturb nobody.

// lockPause is the longest pause between two tries for a lock that another
// process holds. Within a process, operations queue without any lock.
const lockPause = 20 * time.Millisecond

// lockKind is a type of lock as fcntl(2) has it.
type lockKind int16

const (
	shared    lockKind = unix.F_RDLCK
	exclusive lockKind = unix.F_WRLCK
)

func lockRecord(kind lockKind) *unix.Flock_t {
	return &unix.Flock_t{Type: int16(kind), Whence: io.SeekStart, Len: 1}
}

// tryLock is false when somebody else holds f's lock.
func tryLock(f *os.File, kind lockKind) (bool, error) {
	for {
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, lockRecord(kind))
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
			return false, nil
		default:
			return false, fmt.Errorf("lock %q: %w", f.Name(), err)
		}
	}
}

// waitLock takes f's lock as soon as it is free. blocked, if not nil, is called
// once when it is not free at once.
func waitLock(ctx context.Context, f *os.File, kind lockKind, blocked func()) error {
	for pause := time.Millisecond; ; pause = min(2*pause, lockPause) {
		ok, err := tryLock(f, kind)
		if ok || err != nil {
			return err
		}
		if blocked != nil {
			blocked()
			blocked = nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// isLocked says whether anybody holds a lock on f that an exclusive one would
// wait for.
func isLocked(f *os.File) (bool, error) {
	l := lockRecord(exclusive)
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, l); err != nil {
		return false, fmt.Errorf("ask for the lock of %q: %w", f.Name(), err)
	}
	return l.Type != unix.F_UNLCK, nil
}

// unlockClose drops the lock at once, also when a child in the making has
// inherited the descriptor, and closes f.
func unlockClose(f *os.File) {
	l := unix.Flock_t{Type: unix.F_UNLCK, Whence: io.SeekStart, Len: 1}
	_ = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l) // closing drops it too
	_ = f.Close()                                     // nothing is buffered
}
