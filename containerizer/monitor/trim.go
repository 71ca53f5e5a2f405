package monitor

import (
	"runtime"
	"syscall"

	"github.com/berth-dev/berth/containerizer/monitor/internal/offheap"
)

// garbageLimit is how many launches may leave garbage, some 150 bytes each, before
// it is collected. The collector's own tables take 300 KiB from its first run on.
const garbageLimit = 4096

// trim gives back what an idle monitor does not need. It runs once after things
// have become quiet; then the monitor sleeps until something happens.
func (m *monitor) trim() {
	m.dirty = false
	for _, b := range [...][]byte{m.frame, m.control, m.reply, m.chunk} {
		offheap.Discard(b)
	}
	m.log.Discard()
	for _, el := range m.elements {
		if el.logged {
			el.log.Trim()
		}
	}
	m.collect(garbageLimit)
}

// collect collects garbage if there is that much. The collector is off otherwise
// (wire.EnvNoGC): a heap of some dozen objects needs none.
func (m *monitor) collect(limit int) {
	if m.spent >= limit {
		m.spent = 0
		runtime.GC()
		m.refuseHugePages() // with the collector off, its tables ask for some
	}
}

// refuseHugePages keeps the kernel from giving us huge pages. A heap of 200 KiB
// would take 2 MiB with one, which khugepaged(8) makes of any mapping that has a
// single page where they are always on. The setting of prctl(2) that the client
// lent us for the start would pass to the container.
func (m *monitor) refuseHugePages() {
	fd, err := syscall.Open("/proc/self/maps", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer closeIt(fd)
	// Lines are "from-to rw-p offset device inode path", each whole in one read.
	for {
		n, e := read(fd, m.chunk[:4096])
		if e != 0 || n == 0 {
			return
		}
		for text := m.chunk[:n]; len(text) > 0; {
			from, rest := hex(text)
			to, rest := hex(rest)
			const huge = 2 << 20
			if len(rest) > 1 && rest[0] == 'r' && rest[1] == 'w' && to-from >= huge {
				_, _, _ = syscall.RawSyscall(syscall.SYS_MADVISE, from, to-from, madvNoHugePage) // a kernel without them refuses
			}
			text = afterLine(rest)
		}
	}
}

// hex reads a number and skips the byte behind it.
func hex(b []byte) (n uintptr, rest []byte) {
	for i, c := range b {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | uintptr(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | uintptr(c-'a'+10)
		default:
			return n, b[i+1:]
		}
	}
	return n, nil
}

func afterLine(b []byte) []byte {
	for i, c := range b {
		if c == '\n' {
			return b[i+1:]
		}
	}
	return nil
}
