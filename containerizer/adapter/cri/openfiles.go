package cri

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLooked is how many descriptors of a container are looked at each: what there is
// more is counted only.
const maxLooked = 4096

// openFiles is what the processes of a container have open, together. It takes some
// system calls a process, so that nobody gets it but who reads cAdvisor's metrics.
type openFiles struct {
	processes, descriptors uint64
	// sockets are among them; missing when there are too many descriptors to look at each.
	sockets *uint64
	// limit is the soft limit of descriptors of one of the processes, which as a rule is
	// that of all.
	limit uint64
}

// openMetrics are those of processes and what they have open.
func openMetrics() []metric {
	open := func(f func(*openFiles) []sample) func(*measured, item) []sample {
		return func(u *measured, _ item) []sample {
			if u.open == nil {
				return nil
			}
			return f(u.open)
		}
	}
	return []metric{
		{"container_processes", "Processes.", nil, false, false, open(func(o *openFiles) []sample { return one(o.processes) })},
		{"container_file_descriptors", "Open descriptors of all processes.", nil, false, false, open(func(o *openFiles) []sample { return one(o.descriptors) })},
		{"container_sockets", "Open sockets of all processes, unless there are too many descriptors.", nil, false, false, open(func(o *openFiles) []sample { return optional(o.sockets) })},
		{"container_ulimits_soft", "Soft limits of the first process.", []string{"ulimit"}, false, false, open(func(o *openFiles) []sample {
			if o.limit == 0 {
				return nil
			}
			return []sample{{[]string{"max_open_files"}, o.limit}}
		})},
	}
}

// countOpenFiles counts what processes have open. One that ends meanwhile has nothing.
func countOpenFiles(pids []int) *openFiles {
	u := &openFiles{processes: uint64(len(pids))}
	sockets, all := uint64(0), true
	for _, pid := range pids {
		dir, err := os.Open("/proc/" + strconv.Itoa(pid) + "/fd")
		if err != nil {
			continue
		}
		names, err := dir.Readdirnames(-1)
		if err == nil {
			u.descriptors += uint64(len(names))
			if all = all && u.descriptors <= maxLooked; all {
				sockets += socketsAmong(int(dir.Fd()), names)
			}
		}
		_ = dir.Close() // only read
		if u.limit == 0 {
			var limit unix.Rlimit
			if unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit) == nil {
				u.limit = limit.Cur
			}
		}
	}
	if all {
		u.sockets = &sockets
	}
	return u
}

// socketsAmong counts those of the descriptors in a folder of /proc that are sockets. The
// links are read and not followed: a file system that hangs holds nobody up.
func socketsAmong(dir int, names []string) uint64 {
	var n uint64
	var target [16]byte
	for _, name := range names {
		if length, err := unix.Readlinkat(dir, name, target[:]); err == nil && strings.HasPrefix(string(target[:length]), "socket:") {
			n++
		}
	}
	return n
}
