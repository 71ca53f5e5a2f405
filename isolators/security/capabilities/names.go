package capabilities

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// names are the capabilities by number (linux/capability.h).
//
//nolint:gochecknoglobals // a constant table
var names = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// defaultNames are the capabilities that Docker and containerd give.
//
//nolint:gochecknoglobals // a constant table
var defaultNames = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// all stands for every capability.
const all = "ALL"

// set is a set of capabilities as a bit mask.
type set uint64

// parse reads names as users write them: any case, CAP_ or not, ALL.
func parse(list []string) (s set, hasAll bool, err error) {
	var unknown []string
	for _, name := range list {
		n := strings.ToUpper(name)
		if n == all {
			hasAll = true
			continue
		}
		i := slices.Index(names[:], "CAP_"+strings.TrimPrefix(n, "CAP_"))
		if i < 0 {
			unknown = append(unknown, fmt.Sprintf("%q", name))
			continue
		}
		s |= 1 << i
	}
	if len(unknown) > 0 {
		return 0, false, fmt.Errorf("unknown capability %s (capabilities(7) lists them): %w",
			strings.Join(unknown, ", "), containerizer.ErrInvalid)
	}
	return s, hasAll, nil
}

// list returns the names in s, by number; nil for none.
func (s set) list() []string {
	var out []string
	for i, name := range names {
		if s&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return out
}

// kernelSet returns the capabilities that the kernel has of those that berth knows.
func kernelSet() (set, error) {
	for n := len(names); n > 0; n-- {
		_, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n-1), 0, 0, 0)
		if err == nil {
			return 1<<n - 1, nil
		}
		if !errors.Is(err, unix.EINVAL) {
			return 0, fmt.Errorf("ask the kernel for %s: %w", names[n-1], err)
		}
	}
	return 0, nil
}
