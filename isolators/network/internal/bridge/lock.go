package bridge

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// lockWait bounds the wait for the lock; its holders need milliseconds.
const lockWait = 20 * time.Second

// Exclusive runs f while nobody else on the machine chooses a subnet, makes or
// removes a bridge or the table of rules, whatever its state directory. Calls must
// not nest.
func Exclusive(ctx context.Context, f func() error) error {
	unlock, err := lockNamespace(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return f()
}

// lockNamespace takes the lock of the host's network namespace, which is a lock on
// its file: all state directories of the machine share its bridges. The kernel
// frees it when its process ends.
func lockNamespace(ctx context.Context) (unlock func(), err error) {
	f, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open the host's network namespace: %w", err)
	}
	if err := waitLock(ctx, f); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the host's network namespace%s: %w", holder(f), err), f.Close())
	}
	return func() { _ = f.Close() }, nil // closing releases the lock
}

// waitLock asks again and again, since a wait within the kernel cannot be ended.
func waitLock(ctx context.Context, f *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || (!errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR)) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), containerizer.ErrUnavailable)
		}
	}
}

// holder names the process that has the lock on f, as far as the kernel tells.
// Any user may take it, so one who never lets go has to be found.
func holder(f *os.File) string {
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	stat, is := info.Sys().(*syscall.Stat_t)
	if !is {
		return ""
	}
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return ""
	}
	defer func() { _ = locks.Close() }() // read only
	inode := ":" + strconv.FormatUint(stat.Ino, 10)
	for s := bufio.NewScanner(locks); s.Scan(); {
		// 1: FLOCK  ADVISORY  WRITE 4711 00:04:4026531840 0 EOF (proc_locks(5))
		field := strings.Fields(s.Text())
		if len(field) >= 6 && field[1] == "FLOCK" && strings.HasSuffix(field[5], inode) {
			return ", which process " + field[4] + " holds"
		}
	}
	return ""
}
