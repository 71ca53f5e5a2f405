package launch

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// capabilityNames are the capabilities of capabilities(7), by number.
//
//nolint:gochecknoglobals // a constant table
var capabilityNames = [...]string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
	"NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT",
	"SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE",
	"AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
	"PERFMON", "BPF", "CHECKPOINT_RESTORE",
}

// CapabilityNames are the names of the capabilities in a bit mask.
func CapabilityNames(mask uint64) []string {
	var names []string
	for n, name := range capabilityNames {
		if mask>>n&1 == 1 {
			names = append(names, "CAP_"+name)
		}
	}
	return names
}

// capabilitySets are the sets of a process as bit masks.
type capabilitySets struct{ bounding, effective, permitted, inheritable, ambient uint64 }

func (k *compiler) capabilitySets() (*capabilitySets, error) {
	c := k.c.Process.Capabilities
	if c == nil {
		return nil, nil
	}
	var s capabilitySets
	for _, set := range []struct {
		mask  *uint64
		names []string
	}{
		{&s.bounding, c.Bounding},
		{&s.effective, c.Effective},
		{&s.permitted, c.Permitted},
		{&s.inheritable, c.Inheritable},
		{&s.ambient, c.Ambient},
	} {
		for _, name := range set.names {
			n := slices.Index(capabilityNames[:], strings.TrimPrefix(name, "CAP_"))
			if n < 0 {
				return nil, fmt.Errorf("capability %q is unknown: %w", name, containerizer.ErrInvalid)
			}
			*set.mask |= 1 << n
		}
		if k.c.Available != 0 {
			*set.mask &= k.c.Available
		}
	}
	return &s, nil
}

// identity sets the limits, drops the bounding set and takes the process's user and
// groups. The other capabilities stay until capabilities, which is after the last
// operation that needs them.
func (k *compiler) identity() error {
	if err := k.limits(); err != nil {
		return err
	}
	sets, err := k.capabilitySets()
	if err != nil {
		return err
	}
	k.sets = sets
	p := &k.c.Process
	if sets != nil {
		k.step("drop capabilities from the bounding set")
		for n := range k.c.LastCap + 1 {
			if sets.bounding>>n&1 == 0 {
				k.Call(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, n, 0, 0, 0)
			}
		}
		k.step("keep capabilities across the change of user")
		k.Call(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0, 0, 0)
	}
	groups := make([]byte, 0, 4*len(p.Groups))
	for _, g := range p.Groups {
		groups = append(groups, byte(g), byte(g>>8), byte(g>>16), byte(g>>24))
	}
	k.step(fmt.Sprintf("set the supplementary groups %v", p.Groups))
	k.Call(unix.SYS_SETGROUPS, len(p.Groups), k.Bytes(groups))
	k.step(fmt.Sprintf("become user %d, group %d", p.UID, p.GID))
	k.Call(unix.SYS_SETRESGID, int(p.GID), int(p.GID), int(p.GID))
	k.Call(unix.SYS_SETRESUID, int(p.UID), int(p.UID), int(p.UID))
	k.undumpable()
	return nil
}

// undumpable follows a change of user or group, by which the kernel makes the
// memory as dumpable as fs.suid_dumpable says (proc_sys_fs(5)). The memory may be
// shared with the monitor.
func (k *compiler) undumpable() {
	k.step("stay out of reach of other processes")
	k.Call(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

// capabilities takes the final sets. A user other than root ends with the ambient
// set only, as execve(2) has it.
func (k *compiler) capabilities() {
	p := &k.c.Process
	if p.NoNewPrivileges {
		k.step("set no_new_privs")
		k.Call(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	if k.sets == nil {
		return
	}
	s := k.sets
	k.step("set the capabilities")
	k.capset(s)
	if s.ambient == 0 {
		return
	}
	k.step("set the ambient capabilities")
	for n := range k.c.LastCap + 1 {
		if s.ambient>>n&1 == 1 {
			k.Call(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, n, 0, 0)
		}
	}
}

// capset adds capset(2).
func (k *compiler) capset(s *capabilitySets) {
	header := k.Words(uint64(unix.LINUX_CAPABILITY_VERSION_3))
	low := func(m uint64) uint64 { return m & 0xffffffff }
	data := k.Words(
		low(s.effective)|low(s.permitted)<<32, low(s.inheritable)|low(s.effective>>32)<<32,
		low(s.permitted>>32)|low(s.inheritable>>32)<<32,
	)
	k.Call(unix.SYS_CAPSET, header, data)
}

// filterBeforeCapabilities installs the seccomp filter while the process may, when
// it does not set no_new_privs (seccomp(2)): it needs CAP_SYS_ADMIN, which the
// change of user has taken from the effective set.
func (k *compiler) filterBeforeCapabilities() {
	if k.c.Process.NoNewPrivileges || len(k.c.Filter) == 0 {
		return
	}
	if k.c.Process.UID != 0 {
		k.reduceCapabilities()
	}
	k.filter()
}

// reduceCapabilities leaves the process those that it will have, and what it takes
// to install a seccomp filter and to get there.
func (k *compiler) reduceCapabilities() {
	if k.sets == nil {
		return
	}
	s := *k.sets
	s.permitted |= s.effective
	if !k.c.Process.NoNewPrivileges && len(k.c.Filter) > 0 {
		s.permitted |= 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SETPCAP
	}
	s.effective = s.permitted
	k.step("reduce the capabilities")
	k.capset(&s)
}

// filterAfterCapabilities installs it as late as possible otherwise.
func (k *compiler) filterAfterCapabilities() {
	if k.c.Process.NoNewPrivileges {
		k.filter()
	}
}

func (k *compiler) filter() {
	if len(k.c.Filter) == 0 {
		return
	}
	const instruction = 8
	k.step("install the seccomp filter")
	fprog := k.Words(len(k.c.Filter)/instruction, k.Bytes(k.c.Filter)) // struct sock_fprog
	k.Call(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, int(k.c.FilterFlags), fprog)
}
