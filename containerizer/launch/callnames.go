package launch

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer/launch/program"
)

// callName is the name of a system call that the compiler uses.
func callName(nr uint32) string {
	switch nr {
	case program.OpJump:
		return "jump"
	case program.OpStore:
		return "store"
	case program.OpSpawn:
		return "spawn"
	case program.OpFail:
		return "fail"
	case program.OpExpect:
		return "expect"
	case program.OpStoreWord:
		return "store"
	}
	for _, c := range callNames {
		if c.nr == nr {
			return c.name
		}
	}
	return fmt.Sprintf("syscall_%d", nr)
}

//nolint:gochecknoglobals // a constant table
var callNames = [...]struct {
	nr   uint32
	name string
}{
	{unix.SYS_CAPSET, "capset"},
	{unix.SYS_CHDIR, "chdir"},
	{unix.SYS_CHROOT, "chroot"},
	{unix.SYS_CLOSE, "close"},
	{unix.SYS_CLOSE_RANGE, "close_range"},
	{unix.SYS_DUP3, "dup3"},
	{unix.SYS_EXECVE, "execve"},
	{unix.SYS_EXECVEAT, "execveat"},
	{unix.SYS_FACCESSAT2, "faccessat2"},
	{unix.SYS_FCHDIR, "fchdir"},
	{unix.SYS_FCHOWN, "fchown"},
	{unix.SYS_FCHOWNAT, "fchownat"},
	{unix.SYS_FCNTL, "fcntl"},
	{unix.SYS_IOCTL, "ioctl"},
	{unix.SYS_IOPRIO_SET, "ioprio_set"},
	{unix.SYS_KEYCTL, "keyctl"},
	{unix.SYS_MKDIRAT, "mkdirat"},
	{unix.SYS_MKNODAT, "mknodat"},
	{unix.SYS_MOUNT, "mount"},
	{unix.SYS_MOUNT_SETATTR, "mount_setattr"},
	{unix.SYS_MOVE_MOUNT, "move_mount"},
	{unix.SYS_OPENAT, "openat"},
	{unix.SYS_OPENAT2, "openat2"},
	{unix.SYS_OPEN_TREE, "open_tree"},
	{unix.SYS_PIVOT_ROOT, "pivot_root"},
	{unix.SYS_PRCTL, "prctl"},
	{unix.SYS_PRLIMIT64, "prlimit64"},
	{unix.SYS_READ, "read"},
	{unix.SYS_RT_SIGPROCMASK, "rt_sigprocmask"},
	{unix.SYS_SCHED_SETATTR, "sched_setattr"},
	{unix.SYS_SECCOMP, "seccomp"},
	{unix.SYS_SENDMSG, "sendmsg"},
	{unix.SYS_SETDOMAINNAME, "setdomainname"},
	{unix.SYS_SETGROUPS, "setgroups"},
	{unix.SYS_SETHOSTNAME, "sethostname"},
	{unix.SYS_SETNS, "setns"},
	{unix.SYS_SETRESGID, "setresgid"},
	{unix.SYS_SETRESUID, "setresuid"},
	{unix.SYS_SETSID, "setsid"},
	{unix.SYS_SOCKET, "socket"},
	{unix.SYS_STATX, "statx"},
	{unix.SYS_SYMLINKAT, "symlinkat"},
	{unix.SYS_UMASK, "umask"},
	{unix.SYS_UMOUNT2, "umount2"},
	{unix.SYS_UNSHARE, "unshare"},
	{unix.SYS_WRITE, "write"},
}

// namespaceFlags names the bits of CLONE_NEW flags.
func namespaceFlags(flags uint64) string {
	var names []string
	for _, f := range []struct {
		flag uint64
		name string
	}{
		{unix.CLONE_NEWUSER, "user"},
		{unix.CLONE_NEWNS, "mount"},
		{unix.CLONE_NEWPID, "pid"},
		{unix.CLONE_NEWIPC, "ipc"},
		{unix.CLONE_NEWUTS, "uts"},
		{unix.CLONE_NEWNET, "network"},
	} {
		if flags&f.flag != 0 {
			names = append(names, "new "+f.name)
		}
	}
	return strings.Join(names, ", ")
}

func errnoName(e uint8) string {
	if name := unix.ErrnoName(unix.Errno(e)); name != "" {
		return name
	}
	return fmt.Sprint(e)
}
