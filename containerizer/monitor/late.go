package monitor

import (
	"bytes"
	"syscall"

	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// setLate puts the last argument, which the process was started without, into its
// command line: in place of the room that was left for it there. So ps(1) shows it, the
// exit command gets it, and it costs no memory of ours.
func setLate(last []byte) syscall.Errno {
	line, e := readAll("/proc/self/cmdline")
	if e != 0 {
		return e
	}
	room, found := bytes.CutSuffix(line, append(bytes.Repeat([]byte{wire.LateFill}, wire.LateRoom), 0))
	if !found || len(last) > wire.LateRoom || bytes.IndexByte(last, 0) >= 0 {
		return syscall.EINVAL
	}
	stat, e := readAll("/proc/self/stat")
	if e != 0 {
		return e
	}
	begin, ok := argumentsBegin(stat)
	if !ok {
		return syscall.EINVAL
	}
	fd, err := syscall.Open("/proc/self/mem", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return errno(err)
	}
	defer closeIt(fd)
	text := make([]byte, wire.LateRoom)
	copy(text, last)
	if n, err := syscall.Pwrite(fd, text, begin+int64(len(room))); err != nil || n != len(text) {
		return syscall.EIO
	}
	return 0
}

// argumentsBegin is the address of the command line: arg_start in /proc/PID/stat
// (proc_pid_stat(5)), the 48th field.
func argumentsBegin(stat []byte) (int64, bool) {
	_, rest, ok := bytes.Cut(stat[max(bytes.LastIndexByte(stat, ')'), 0):], []byte{' '}) // from the third on
	if !ok {
		return 0, false
	}
	for range 48 - 3 {
		if _, rest, ok = bytes.Cut(rest, []byte{' '}); !ok {
			return 0, false
		}
	}
	field, _, _ := bytes.Cut(rest, []byte{' '})
	var n int64
	for _, c := range field {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return n, n > 0
}

// readAll reads a file of /proc.
func readAll(path string) ([]byte, syscall.Errno) {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, errno(err)
	}
	defer closeIt(fd)
	var text []byte
	var buf [1024]byte
	for {
		n, e := read(fd, buf[:])
		if e != 0 || n == 0 {
			return text, e
		}
		text = append(text, buf[:n]...)
	}
}
