package seccomp

import (
	"fmt"
	"maps"
	"math"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// maxRules bounds the work for a profile from outside: one rule counts for each
// name, each set of conditions and each ABI. Docker's profile has about 1300.
const maxRules = 1 << 16

// maxArgIndex is the last argument of a system call.
const maxArgIndex = 5

// condition compares one argument.
type condition = specs.LinuxSeccompArg

// rule gives calls that meet all its conditions a verdict.
type rule struct {
	verdict    verdict
	conditions []condition
}

// policy is a profile resolved to the numbers of each ABI.
type policy struct {
	def   verdict
	abis  []abi
	calls [abiCount]map[int32][]rule
	// last is the highest number in the ABI's table that the profile names, -1 if
	// it names none.
	last  [abiCount]int32
	rules int
}

func newPolicy(p *specs.LinuxSeccomp, m machine) (*policy, error) {
	def, err := newVerdict(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, fmt.Errorf("default %w", err)
	}
	pol := &policy{def: def}
	if pol.abis, err = m.choose(p.Architectures); err != nil {
		return nil, err
	}
	for a := range pol.calls {
		pol.calls[a] = map[int32][]rule{}
		pol.last[a] = -1
	}
	names, known := 0, 0
	for i := range p.Syscalls {
		s := &p.Syscalls[i]
		k, err := pol.add(s, p)
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", i, err)
		}
		names, known = names+len(s.Names), known+k
	}
	if names > 0 && known == 0 {
		return nil, fmt.Errorf("none of its %d names is a system call of %s: %w", names, m.goarch, containerizer.ErrInvalid)
	}
	return pol, nil
}

func (pol *policy) has(a abi) bool { return slices.Contains(pol.abis, a) }

// sorted returns the numbers of a with rules.
func (pol *policy) sorted(a abi) []int32 { return slices.Sorted(maps.Keys(pol.calls[a])) }

// end is the number after the last one of a that the profile names.
func (pol *policy) end(a abi) uint32 {
	if a == abiX32 && pol.last[a] < 0 {
		return x32First
	}
	return uint32(pol.last[a] + 1)
}

// beyond is the verdict for numbers from end on. A restrictive profile answers
// ENOSYS as a kernel without the call would: libraries try a new call and fall
// back on ENOSYS only (runc, libcontainer/seccomp/patchbpf). An ABI of which the
// profile names no call keeps the default action.
func (pol *policy) beyond(a abi) verdict {
	if a == abiX32 {
		a = abiX86_64 // below 512 they are the same, so one of both names calls
	}
	if pol.def.permissive() || pol.last[a] < 0 {
		return pol.def
	}
	return errno | errnoNoSys
}

// add resolves one rule of profile p and returns how many of its names are known.
func (pol *policy) add(s *specs.LinuxSyscall, p *specs.LinuxSeccomp) (known int, err error) {
	v, err := newVerdict(s.Action, s.ErrnoRet)
	if err != nil {
		return 0, err
	}
	if err := checkConditions(s.Args); err != nil {
		return 0, err
	}
	if len(s.Names) == 0 {
		return 0, fmt.Errorf("it names no system call: %w", containerizer.ErrInvalid)
	}
	alternatives := alternatives(s.Args)
	for _, name := range s.Names {
		numbers, ok := lookup(name)
		if !ok {
			continue
		}
		known++
		for _, a := range pol.abis {
			if err := pol.addNumber(a, numbers[a], v, alternatives); err != nil {
				return 0, err
			}
		}
		if pol.has(abiX86) {
			if err := pol.addMultiplexed(name, v, s, p); err != nil {
				return 0, err
			}
		}
	}
	return known, nil
}

// alternatives splits conditions into sets of which one must hold. Conditions on
// different arguments must all hold; if an argument occurs twice each condition
// stands alone, as in runc (libcontainer/seccomp, matchCall) since Docker's
// profiles depend on it.
func alternatives(conditions []condition) [][]condition {
	var seen [maxArgIndex + 1]bool
	for _, c := range conditions {
		if seen[c.Index] {
			sets := make([][]condition, len(conditions))
			for i := range conditions {
				sets[i] = conditions[i : i+1]
			}
			return sets
		}
		seen[c.Index] = true
	}
	return [][]condition{conditions}
}

func (pol *policy) addNumber(a abi, nr int32, v verdict, alternatives [][]condition) error {
	if nr < 0 {
		return nil
	}
	if nr < armPrivateFirst {
		pol.last[a] = max(pol.last[a], nr)
	}
	if v == pol.def {
		return nil // as in runc: it says nothing that the default does not
	}
	if pol.rules += len(alternatives); pol.rules > maxRules {
		return fmt.Errorf("the profile has more than %d rules: %w", maxRules, containerizer.ErrInvalid)
	}
	for _, conditions := range alternatives {
		pol.calls[a][nr] = append(pol.calls[a][nr], rule{v, conditions})
	}
	return nil
}

// addMultiplexed makes rule s for name hold behind its i386 multiplexer. A
// conditional rule holds there without its conditions if it restricts, unless
// the profile decides about the multiplexer itself.
func (pol *policy) addMultiplexed(name string, v verdict, s *specs.LinuxSyscall, p *specs.LinuxSeccomp) error {
	multiplexer, call, ok := multiplexed(name)
	if !ok || len(s.Args) > 0 && (v.leniency() >= pol.def.leniency() || names(p, multiplexer)) {
		return nil
	}
	numbers, ok := lookup(multiplexer)
	if !ok {
		panic("seccomp: no number for " + multiplexer)
	}
	// The upper half of ipc's first argument is a version (ipc/syscall.c).
	only := condition{Index: 0, Op: specs.OpMaskedEqual, Value: math.MaxUint16, ValueTwo: call}
	if multiplexer == "socketcall" {
		only = condition{Index: 0, Op: specs.OpEqualTo, Value: call}
	}
	return pol.addNumber(abiX86, numbers[abiX86], v, [][]condition{{only}})
}

func names(p *specs.LinuxSeccomp, name string) bool {
	return slices.ContainsFunc(p.Syscalls, func(s specs.LinuxSyscall) bool { return slices.Contains(s.Names, name) })
}

func checkConditions(conditions []condition) error {
	for _, c := range conditions {
		if c.Index > maxArgIndex {
			return fmt.Errorf("argument index %d is above %d: %w", c.Index, maxArgIndex, containerizer.ErrInvalid)
		}
		switch c.Op {
		case specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo,
			specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual:
		default:
			return fmt.Errorf("operator %q of argument %d is unknown: %w", c.Op, c.Index, containerizer.ErrInvalid)
		}
	}
	return nil
}
