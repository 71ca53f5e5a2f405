package seccomp_test

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer/launch/seccomp"
)

// What the package promises, evaluated in the plainest way: every rule against
// every call, nothing resolved, shared or searched.

const (
	columnX86_64 = iota
	columnX86
	columnX32
	columnARM64
	columnARM
)

const (
	archX86_64 = 0xc000003e
	archX86    = 0x40000003
	archARM64  = 0xc00000b7
	archARM    = 0x40000028

	x32Bit = 0x40000000

	retKillProcess = 0x80000000
	retErrno       = 0x00050000
	retNoSys       = retErrno | 38
)

// reference returns the verdict for c under p on a machine.
func reference(p *specs.LinuxSeccomp, goarch string, c call) uint32 {
	column, nr, ok := decode(p, goarch, c)
	if !ok {
		return retKillProcess
	}
	narrow := column == columnX86 || column == columnARM
	if narrow {
		for i := range c.args {
			c.args[i] &= 0xffffffff
		}
	}
	def := retOf(p.DefaultAction, p.DefaultErrnoRet)
	best, found := uint32(0), false
	last := int64(-1)
	for _, s := range p.Syscalls {
		ret := retOf(s.Action, s.ErrnoRet)
		for _, name := range s.Names {
			n := int64(seccomp.Number(name, column))
			if column == columnX86 && n < 0 || column == columnX86 && n != nr {
				if behindMultiplexer(p, s, name, nr, c, int32(ret&0xffff0000) < int32(def&0xffff0000)) && ret != def &&
					(!found || int32(ret&0xffff0000) < int32(best&0xffff0000)) {
					best, found = ret, true
				}
			}
			if n >= 0 && n < 0xf0000 {
				last = max(last, n)
			}
			if multiplexer := multiplexerOf(name); column == columnX86 && multiplexer != "" && (len(s.Args) == 0 ||
				int32(ret&0xffff0000) < int32(def&0xffff0000) && !named(p, multiplexer)) {
				last = max(last, int64(seccomp.Number(multiplexer, columnX86)))
			}
			if n == nr && ret != def && holds(s.Args, c) && (!found || int32(ret&0xffff0000) < int32(best&0xffff0000)) {
				best, found = ret, true
			}
		}
	}
	if found {
		return best
	}
	if column == columnX32 {
		last = max(last, 511)
		if !namesAny(p, columnX86_64) {
			return def
		}
	}
	permissive := p.DefaultAction == specs.ActAllow || p.DefaultAction == specs.ActLog || p.DefaultAction == specs.ActTrace
	private := column == columnARM && nr >= 0xf0000 && namesPrivate(p)
	if last >= 0 && nr > last && !permissive && !private {
		return retNoSys
	}
	return def
}

// decode finds the ABI of a call and its number there.
func decode(p *specs.LinuxSeccomp, goarch string, c call) (column int, nr int64, ok bool) {
	listed := func(a specs.Arch) bool { return slices.Contains(p.Architectures, a) }
	switch {
	case goarch == "arm64" && c.arch == archARM64:
		return columnARM64, int64(c.nr), true
	case goarch == "arm64" && c.arch == archARM:
		return columnARM, int64(c.nr), listed(specs.ArchARM)
	case goarch == "amd64" && c.arch == archX86:
		return columnX86, int64(c.nr), listed(specs.ArchX86)
	case goarch == "amd64" && c.arch == archX86_64 && c.nr < x32Bit:
		return columnX86_64, int64(c.nr), true
	case goarch == "amd64" && c.arch == archX86_64 && listed(specs.ArchX32):
		if n := int64(c.nr - x32Bit); n >= 512 {
			return columnX32, n, true
		}
		return columnX86_64, int64(c.nr - x32Bit), true
	case goarch == "amd64" && c.arch == archX86_64 && c.nr == 0xffffffff:
		return columnX86_64, int64(c.nr), true
	}
	return 0, 0, false
}

func namesAny(p *specs.LinuxSeccomp, column int) bool {
	return slices.ContainsFunc(p.Syscalls, func(s specs.LinuxSyscall) bool {
		return slices.ContainsFunc(s.Names, func(n string) bool { return seccomp.Number(n, column) >= 0 })
	})
}

// namesPrivate says whether p has a rule for a private call of arm that differs
// from its default.
func namesPrivate(p *specs.LinuxSeccomp) bool {
	return slices.ContainsFunc(p.Syscalls, func(s specs.LinuxSyscall) bool {
		return retOf(s.Action, s.ErrnoRet) != retOf(p.DefaultAction, p.DefaultErrnoRet) &&
			slices.ContainsFunc(s.Names, func(n string) bool { return seccomp.Number(n, columnARM) >= 0xf0000 })
	})
}

func named(p *specs.LinuxSeccomp, name string) bool {
	return slices.ContainsFunc(p.Syscalls, func(s specs.LinuxSyscall) bool { return slices.Contains(s.Names, name) })
}

var socketCalls = map[string]uint64{
	"socket": 1, "bind": 2, "connect": 3, "listen": 4, "accept": 5, "getsockname": 6, "getpeername": 7, "socketpair": 8,
	"send": 9, "recv": 10, "sendto": 11, "recvfrom": 12, "shutdown": 13, "setsockopt": 14, "getsockopt": 15,
	"sendmsg": 16, "recvmsg": 17, "accept4": 18, "recvmmsg": 19, "sendmmsg": 20,
}

var ipcCalls = map[string]uint64{
	"semop": 1, "semget": 2, "semctl": 3, "semtimedop": 4, "msgsnd": 11, "msgrcv": 12, "msgget": 13,
	"msgctl": 14, "shmat": 21, "shmdt": 22, "shmget": 23, "shmctl": 24,
}

func multiplexerOf(name string) string {
	if socketCalls[name] > 0 {
		return "socketcall"
	}
	if ipcCalls[name] > 0 {
		return "ipc"
	}
	return ""
}

// behindMultiplexer says whether rule s for name applies to c, which is an i386
// socketcall or ipc.
func behindMultiplexer(p *specs.LinuxSeccomp, s specs.LinuxSyscall, name string, nr int64, c call, restricts bool) bool {
	switch {
	case nr == 102 && socketCalls[name] > 0 && socketCalls[name] == c.args[0]:
		return len(s.Args) == 0 || restricts && !named(p, "socketcall")
	case nr == 117 && ipcCalls[name] > 0 && ipcCalls[name] == c.args[0]&0xffff:
		return len(s.Args) == 0 || restricts && !named(p, "ipc")
	}
	return false
}

// holds says whether a call meets the conditions of a rule: all of them, or one
// if an argument is compared twice.
func holds(args []specs.LinuxSeccompArg, c call) bool {
	var count [6]int
	twice := false
	met := 0
	for _, a := range args {
		count[a.Index]++
		twice = twice || count[a.Index] > 1
		if compare(a, c.args[a.Index]) {
			met++
		}
	}
	return met == len(args) || twice && met > 0
}

func compare(a specs.LinuxSeccompArg, v uint64) bool {
	switch a.Op {
	case specs.OpEqualTo:
		return v == a.Value
	case specs.OpNotEqual:
		return v != a.Value
	case specs.OpLessThan:
		return v < a.Value
	case specs.OpLessEqual:
		return v <= a.Value
	case specs.OpGreaterThan:
		return v > a.Value
	case specs.OpGreaterEqual:
		return v >= a.Value
	case specs.OpMaskedEqual:
		return v&a.Value == a.ValueTwo
	}
	panic("operator " + a.Op)
}

func retOf(action specs.LinuxSeccompAction, ret *uint) uint32 {
	data := uint32(1)
	if ret != nil {
		data = uint32(*ret)
	}
	switch action { //nolint:exhaustive // NOTIFY is refused
	case specs.ActKill, specs.ActKillThread:
		return 0
	case specs.ActKillProcess:
		return retKillProcess
	case specs.ActTrap:
		return 0x00030000
	case specs.ActErrno:
		return retErrno | data
	case specs.ActTrace:
		return 0x7ff00000 | data
	case specs.ActLog:
		return 0x7ffc0000
	case specs.ActAllow:
		return 0x7fff0000
	}
	panic("action " + action)
}
