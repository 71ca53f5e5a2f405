package seccomp

import (
	"fmt"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// abi is a calling convention with its own system call numbers.
type abi int

// The ABIs, in the order of the columns of syscallNumbers. x32 has only those
// calls in its column whose number is its own (512 and up); the others have the
// number of x86-64.
const (
	abiX86_64 abi = iota
	abiX86
	abiX32
	abiARM64
	abiARM
	abiCount
)

const (
	// x32Bit marks x32 calls, which otherwise look like those of x86-64.
	x32Bit = 0x40000000
	// x32First is where the numbers that only x32 has begin.
	x32First = 512
	// armPrivateFirst is where arm's calls outside of the table begin.
	armPrivateFirst = 0x0f0000
)

// syscallNumbers is a line of the generated table.
type syscallNumbers struct {
	name    string
	numbers [abiCount]int32
}

// lookup returns the numbers of the call called name.
func lookup(name string) (*[abiCount]int32, bool) {
	i, found := slices.BinarySearchFunc(syscalls[:], name, func(s syscallNumbers, name string) int {
		return strings.Compare(s.name, name)
	})
	if !found {
		return nil, false
	}
	return &syscalls[i].numbers, true
}

// auditArch is the value of seccomp_data.arch (linux/audit.h).
func (a abi) auditArch() uint32 {
	switch a {
	case abiX86_64, abiX32:
		return 0xc000003e
	case abiX86:
		return 0x40000003
	case abiARM64:
		return 0xc00000b7
	case abiARM:
		return 0x40000028
	case abiCount:
	}
	panic(fmt.Sprintf("seccomp: abi %d does not exist", a))
}

// narrow says whether arguments have 32 bits. The kernel ignores the upper half
// then, so the filter must: it can be anything after int $0x80 in a 64-bit process.
func (a abi) narrow() bool { return a == abiX86 || a == abiARM }

// machine is an architecture of Go with the ABIs its kernel runs, native first.
type machine struct {
	goarch string
	abis   []abi
}

func newMachine(goarch string) (machine, error) {
	switch goarch {
	case "amd64":
		return machine{goarch, []abi{abiX86_64, abiX86, abiX32}}, nil
	case "arm64":
		return machine{goarch, []abi{abiARM64, abiARM}}, nil
	}
	return machine{}, fmt.Errorf("seccomp filters for %s: %w", goarch, containerizer.ErrUnsupported)
}

// choose returns the ABIs of m that are listed, and always the native one, as
// libseccomp does. Listed architectures of other machines are skipped: calls of
// theirs cannot happen here.
func (m machine) choose(listed []specs.Arch) ([]abi, error) {
	chosen := m.abis[:1:1]
	for _, name := range listed {
		if !knownArch(name) {
			return nil, fmt.Errorf("architecture %q is unknown: %w", name, containerizer.ErrInvalid)
		}
		for _, a := range m.abis[1:] {
			if a.specName() == name && !slices.Contains(chosen, a) {
				chosen = append(chosen, a)
			}
		}
	}
	slices.Sort(chosen[1:])
	return chosen, nil
}

func (a abi) specName() specs.Arch {
	return [abiCount]specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32, specs.ArchAARCH64, specs.ArchARM}[a]
}

func knownArch(name specs.Arch) bool {
	switch name {
	case specs.ArchX86, specs.ArchX86_64, specs.ArchX32, specs.ArchARM, specs.ArchAARCH64,
		specs.ArchMIPS, specs.ArchMIPS64, specs.ArchMIPS64N32, specs.ArchMIPSEL, specs.ArchMIPSEL64,
		specs.ArchMIPSEL64N32, specs.ArchPPC, specs.ArchPPC64, specs.ArchPPC64LE, specs.ArchS390,
		specs.ArchS390X, specs.ArchPARISC, specs.ArchPARISC64, specs.ArchRISCV64,
		specs.ArchLOONGARCH64, specs.ArchM68K, specs.ArchSH, specs.ArchSHEB:
		return true
	}
	return false
}

// multiplexed returns the i386 call that name can also be reached through, and
// its number there; the arguments are in memory then (net/socket.c, ipc/syscall.c).
func multiplexed(name string) (multiplexer string, call uint64, ok bool) {
	if i := slices.Index(socketCalls[:], name); i >= 0 {
		return "socketcall", uint64(i) + 1, true
	}
	switch name {
	case "semop":
		call = 1
	case "semget":
		call = 2
	case "semctl":
		call = 3
	case "semtimedop":
		call = 4
	case "msgsnd":
		call = 11
	case "msgrcv":
		call = 12
	case "msgget":
		call = 13
	case "msgctl":
		call = 14
	case "shmat":
		call = 21
	case "shmdt":
		call = 22
	case "shmget":
		call = 23
	case "shmctl":
		call = 24
	default:
		return "", 0, false
	}
	return "ipc", call, true
}

// socketCalls are the calls of socketcall(2) from number 1 on (linux/net.h).
//
//nolint:gochecknoglobals // a constant table
var socketCalls = [...]string{
	"socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername", "socketpair",
	"send", "recv", "sendto", "recvfrom", "shutdown", "setsockopt", "getsockopt", "sendmsg",
	"recvmsg", "accept4", "recvmmsg", "sendmmsg",
}
