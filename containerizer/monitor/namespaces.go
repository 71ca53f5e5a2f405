package monitor

import (
	"syscall"
	"unsafe"

	"github.com/berth-dev/berth/containerizer/monitor/record"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// namespaceFile is a kind of namespace and its file in /proc/PID/ns.
type namespaceFile struct {
	kind wire.NamespaceSet
	file string
}

// namespaceFiles are the kinds of namespaces, in the order of element.held.
func namespaceFiles() [wire.MaxNamespaces]namespaceFile {
	return [...]namespaceFile{
		{syscall.CLONE_NEWUSER, "user"},
		{syscall.CLONE_NEWNS, "mnt"},
		{0x02000000, "cgroup"}, // CLONE_NEWCGROUP
		{syscall.CLONE_NEWUTS, "uts"},
		{syscall.CLONE_NEWIPC, "ipc"},
		{syscall.CLONE_NEWPID, "pid"},
		{syscall.CLONE_NEWNET, "net"},
		{0x00000080, "time"}, // CLONE_NEWTIME
	}
}

// holdNamespaces opens namespaces of el's process.
func (m *monitor) holdNamespaces(t ticket, el *element, r wire.HoldNamespaces) {
	waiting := el.state == wire.StateBarrier || el.state == wire.StateHeld
	switch {
	case el.state == wire.StateNamespaces && r.Kinds == 0:
		_ = m.removeRecord(el, record.ProcessFile) // whoever reads it sees that the monitor is gone, later
		m.remove(el)
		m.tell(t, wire.TypeNamespaces, wire.Namespaces{}.Append(m.body()))
		return
	case el.pidfd < 0 || el.ending != (ticket{}) || !waiting && (r.End != 0 || el.state != wire.StateRunning):
		m.refuse(t, syscall.EBUSY, wire.ReasonState)
		return
	}
	if e := m.openNamespaces(el, r.Kinds); e != 0 {
		m.refuse(t, e, wire.ReasonNamespace)
		return
	}
	if r.End == 0 {
		m.tellNamespaces(t, el)
		return
	}
	el.ending = t
	el.kill()
}

func (m *monitor) openNamespaces(el *element, kinds wire.NamespaceSet) syscall.Errno {
	el.closeNamespaces()
	path := append(make([]byte, 0, 48), "/proc/"...)
	path = append(appendInt(path, el.pid), "/ns/"...)
	for i, n := range namespaceFiles() {
		if kinds&n.kind == 0 {
			continue
		}
		fd, err := syscall.Open(string(append(path, n.file...)), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err != nil {
			el.closeNamespaces()
			return errno(err)
		}
		el.held[i] = fd
	}
	return 0
}

// namespacesHeld follows the end of a process that was there for its namespaces.
func (m *monitor) namespacesHeld(el *element) {
	t := el.ending
	el.ending = ticket{}
	if t.conn == nil {
		m.failed(el) // nobody knows of them
		return
	}
	el.state, el.pid, el.startTicks = wire.StateNamespaces, 0, 0
	el.waiters, el.asker = el.waiters[:0], ticket{}
	if e := m.recordProcess(el); e != 0 {
		m.refuse(t, e, wire.ReasonRecord)
		m.remove(el)
		return
	}
	m.tellNamespaces(t, el)
}

// tellNamespaces answers with the numbers of the descriptors, and with copies.
func (m *monitor) tellNamespaces(t ticket, el *element) {
	var list wire.Namespaces
	var fds []int32
	for i, n := range namespaceFiles() {
		if fd := el.held[i]; fd >= 0 {
			list.Held = append(list.Held, wire.HeldNamespace{Kind: n.kind, FD: uint32(fd)})
			fds = append(fds, int32(fd))
		}
	}
	if t.conn == nil || t.conn.broken {
		return
	}
	if t.conn.queue.b == nil && len(fds) > 0 {
		frame := wire.Append(m.reply[:0], wire.Header{Type: wire.TypeNamespaces, Tag: t.tag}, list)
		if send(t.conn.fd, frame, nil, rights(fds)) == 0 {
			return
		}
	}
	m.tell(t, wire.TypeNamespaces, list.Append(m.body())) // a client that is behind opens them by path
}

// rights is the control message that carries descriptors.
func rights(fds []int32) []byte {
	size := syscall.CmsgLen(4 * len(fds))
	b := make([]byte, syscall.CmsgSpace(4*len(fds)))
	h := (*syscall.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type, h.Len = syscall.SOL_SOCKET, syscall.SCM_RIGHTS, uint64(size)
	for i, fd := range fds {
		*(*int32)(unsafe.Pointer(&b[syscall.CmsgLen(0)+4*i])) = fd
	}
	return b
}
