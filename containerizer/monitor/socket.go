package monitor

import (
	"syscall"
	"unsafe"

	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// listen makes the socket for later clients. It appears under its name when it is
// ready, in place of one that a killed monitor left. Without success the monitor
// tries again at the next occasion.
func (m *monitor) listen() {
	const aside = wire.SocketName + ".new"
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	_ = syscall.Unlinkat(m.dir, aside) // as a rule it is not there
	if !m.bind(fd, aside) || syscall.Listen(fd, 64) != nil ||
		syscall.Renameat(m.dir, aside, m.dir, wire.SocketName) != nil ||
		m.watch(fd, syscall.EPOLLIN, watch{kind: watchListener}) != 0 {
		m.unwatch(fd)
		closeIt(fd)
		return
	}
	m.listener = fd
	m.refuseHugePages() // here because the process is busy with itself
}

// bind binds to a name in the monitor's directory, whose path may be longer than
// a socket address can be, and makes the socket the user's own.
func (m *monitor) bind(fd int, name string) bool {
	if syscall.Fchdir(m.dir) != nil {
		return false
	}
	mask := syscall.Umask(0o177)
	address := syscall.RawSockaddrUnix{Family: syscall.AF_UNIX}
	for i := range len(name) {
		address.Path[i] = int8(name[i])
	}
	size := unsafe.Offsetof(address.Path) + uintptr(len(name)) + 1
	_, _, e := syscall.RawSyscall(syscall.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&address)), size)
	syscall.Umask(mask)
	_ = syscall.Chdir("/") // always there
	return e == 0
}

func (m *monitor) closeListener() {
	if m.listener >= 0 {
		m.unwatch(m.listener)
		closeFD(&m.listener)
		_ = syscall.Unlinkat(m.dir, wire.SocketName) // who calls next sees that nobody is there
	}
}

// accept takes new connections of the same user and of root.
func (m *monitor) accept() {
	for {
		fd, e := accept(m.listener)
		if e == syscall.ECONNABORTED || e == syscall.EINTR {
			continue
		}
		if e != 0 {
			return
		}
		uid, e := peerUID(fd)
		if e != 0 || uid != 0 && int(uid) != syscall.Geteuid() || !m.addConn(fd) {
			closeIt(fd)
		}
	}
}
