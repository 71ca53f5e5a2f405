package monitor

import (
	"syscall"

	"github.com/berth-dev/berth/containerizer/monitor/record"
)

// clearRecords removes what an earlier life of the container left.
func (m *monitor) clearRecords(el *element) syscall.Errno {
	for _, name := range [...]string{record.ExitFile, record.ProcessFile} {
		if e := m.removeRecord(el, name); e != 0 && e != syscall.ENOENT {
			return e
		}
	}
	return 0
}

func (m *monitor) removeRecord(el *element, name string) syscall.Errno {
	if el.record < 0 {
		return 0
	}
	return errno(syscall.Unlinkat(el.record, name))
}

// recordProcess writes the process record of el, as it is now.
func (m *monitor) recordProcess(el *element) syscall.Errno {
	pid := syscall.Getpid()
	if m.startTicks == 0 {
		m.startTicks = m.ticksOf(pid)
	}
	return m.writeRecord(el, record.ProcessFile, record.Process{
		PID: uint64(el.pid), StartTicks: el.startTicks,
		MonitorPID: uint64(pid), MonitorStartTicks: m.startTicks, StartedAt: el.startedAt,
	}.Append(m.reply[:0]))
}

// writeRecord writes a file aside and renames it, so that a reader finds all of
// it or none. It is not synced: a power cut ends the container as well.
func (m *monitor) writeRecord(el *element, name string, content []byte) syscall.Errno {
	if el.record < 0 {
		return 0
	}
	aside := name + ".new"
	fd, err := syscall.Openat(el.record, aside, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_TRUNC|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return errno(err)
	}
	n, e := write(fd, content)
	closeIt(fd)
	if e == 0 && n < len(content) {
		e = syscall.ENOSPC
	}
	if e == 0 {
		e = errno(syscall.Renameat(el.record, aside, el.record, name))
	}
	if e != 0 {
		_ = syscall.Unlinkat(el.record, aside) // the error is told
	}
	return e
}

// ticksOf is the start time of a process that cannot have been reaped, or 0.
func (m *monitor) ticksOf(pid int) uint64 {
	path := append(make([]byte, 0, 32), "/proc/"...)
	path = appendInt(path, pid)
	fd, err := syscall.Open(string(append(path, "/stat"...)), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	n, e := read(fd, m.reply[:1024])
	closeIt(fd)
	if e != 0 {
		return 0
	}
	ticks, _ := record.StartTicks(m.reply[:n]) // 0 is unknown
	return ticks
}

func appendInt(b []byte, n int) []byte {
	if n >= 10 {
		b = appendInt(b, n/10)
	}
	return append(b, byte('0'+n%10))
}
