package cgroup

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// maxLooked is how many descriptors of a container are looked at each: what there is
// more is counted only.
const maxLooked = 4096

// openFiles counts what processes have open. One that ends meanwhile has nothing.
func openFiles(pids []int) *containerizer.ProcessUsage {
	u := &containerizer.ProcessUsage{Count: uint64(len(pids))}
	sockets, all := uint64(0), true
	for _, pid := range pids {
		dir, err := os.Open("/proc/" + strconv.Itoa(pid) + "/fd")
		if err != nil {
			continue
		}
		names, err := dir.Readdirnames(-1)
		if err == nil {
			u.FileDescriptors += uint64(len(names))
			if all = all && u.FileDescriptors <= maxLooked; all {
				sockets += socketsAmong(int(dir.Fd()), names)
			}
		}
		_ = dir.Close() // only read
		if u.OpenFilesLimit == 0 {
			var limit unix.Rlimit
			if unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit) == nil {
				u.OpenFilesLimit = limit.Cur
			}
		}
	}
	if all {
		u.Sockets = &sockets
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
