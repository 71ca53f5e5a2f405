package daemon

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// memory gives back what a burst of work took. The runtime keeps such memory for the next
// burst, and collects garbage by how much more is asked for: a daemon that has nothing
// to do for the next hour asks for nothing.
type memory struct {
	// touched is told that containers come or go.
	touched chan struct{}
	// pause is for how long nothing may happen before it is looked at.
	pause time.Duration
	// enough is how much has to have been asked for since the last time.
	enough uint64
	// free gives memory back, after so much was asked for.
	free func(bytes uint64)
}

const (
	settlePause   = time.Second
	settleAfter   = 30 // pauses, however much happens
	settleEnoughB = 8 << 20
	// settleCodeB is after how much the program's own pages are given back as well: a
	// burst of hundreds of launches uses code that single ones do not.
	settleCodeB = 48 << 20
)

func newMemory() *memory {
	return &memory{touched: make(chan struct{}, 1), pause: settlePause, enough: settleEnoughB, free: freeMemory}
}

func freeMemory(bytes uint64) {
	runtime.GC() // what lies in pools goes with the second collection
	debug.FreeOSMemory()
	if bytes >= settleCodeB {
		_ = dropCode() // it stays
	}
}

func (m *memory) touch() {
	select {
	case m.touched <- struct{}{}:
	default:
	}
}

// run waits for work to be over until ctx ends.
func (m *memory) run(ctx context.Context) {
	last := asked()
	for {
		select {
		case <-m.touched:
		case <-ctx.Done():
			return
		}
		if !m.rest(ctx) {
			return
		}
		if bytes := asked() - last; bytes >= m.enough {
			m.free(bytes)
			last = asked()
		}
	}
}

// rest returns once nothing has happened for a pause, or much time has gone by.
func (m *memory) rest(ctx context.Context) bool {
	tick := time.NewTicker(m.pause)
	defer tick.Stop()
	for range settleAfter {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
		select {
		case <-m.touched:
		default:
			return true
		}
	}
	return true
}

// asked is how much memory was asked for since the process began.
func asked() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// dropCode takes the pages of the program out of memory that only its start needed; what
// is needed again comes back from the page cache. Mappings that were written to are left
// alone.
func dropCode() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	var start, end uintptr
	ours := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if strings.HasSuffix(line, " "+exe) {
			var perms string
			_, err := fmt.Sscanf(line, "%x-%x %s", &start, &end, &perms)
			ours = err == nil && strings.HasPrefix(perms, "r-")
			continue
		}
		if name, value, ok := strings.Cut(line, ":"); ours && ok && name == "Anonymous" {
			ours = false
			if strings.Fields(value)[0] != "0" {
				continue
			}
			if _, _, errno := unix.Syscall(unix.SYS_MADVISE, start, end-start, unix.MADV_DONTNEED); errno != 0 {
				return errno
			}
		}
	}
	return nil
}
