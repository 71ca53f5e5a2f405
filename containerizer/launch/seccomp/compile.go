package seccomp

import (
	"runtime"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Compile translates profile p for the kernel of this machine. Names of system
// calls that it does not know are skipped. Errors: ErrInvalid for a profile that
// is malformed or too large for the kernel, ErrUnsupported for one that asks for
// a listener (SCMP_ACT_NOTIFY).
func Compile(p *specs.LinuxSeccomp) (*Filter, error) {
	return compileFor(p, runtime.GOARCH)
}

func compileFor(p *specs.LinuxSeccomp, goarch string) (*Filter, error) {
	m, err := newMachine(goarch)
	if err != nil {
		return nil, err
	}
	pol, err := newPolicy(p, m)
	if err != nil {
		return nil, err
	}
	flags, err := newFlags(p.Flags)
	if err != nil {
		return nil, err
	}
	g := newGraph()
	program, err := g.assemble(g.dispatch(pol))
	if err != nil {
		return nil, err
	}
	return &Filter{Instructions: program, Flags: flags}, nil
}

// dispatch returns the entry of the program: it finds the ABI of a call.
func (g *graph) dispatch(pol *policy) nodeID {
	entry := g.ret(killProcess)
	for _, a := range slices.Backward(pol.abis) {
		if a == abiX32 {
			continue // shares the architecture value of x86-64, see x86_64
		}
		var body nodeID
		if a == abiX86_64 {
			body = g.x86_64(pol)
		} else {
			body = g.load(offsetNR, g.tree(g.numbers(pol, a, 0)))
		}
		entry = g.branch(opJEQ, a.auditArch(), body, entry)
	}
	return g.load(offsetArch, entry)
}

// x86_64 tells x32 from x86-64. The x32 calls below 512 go through the tree of
// x86-64, those from 512 on have one of their own. -1 is what a tracer makes of a
// call to skip it (ptrace(2)); it is not to be killed as an x32 call.
func (g *graph) x86_64(pol *policy) nodeID {
	native := g.numbers(pol, abiX86_64, 0)
	if !pol.has(abiX32) {
		native = append(native,
			segment{x32Bit, g.ret(killProcess)},
			segment{^uint32(0), g.ret(pol.beyond(abiX86_64))})
		return g.load(offsetNR, g.tree(native))
	}
	tree := g.tree(native)
	low := g.and(^uint32(x32Bit), tree)
	high := g.tree(g.numbers(pol, abiX32, x32Bit))
	x32 := g.branch(opJGE, x32Bit+x32First, high, low)
	return g.load(offsetNR, g.branch(opJGE, x32Bit, x32, tree))
}

// numbers lists the outcomes of all numbers of ABI a, marked with the bits of
// mark, in ascending order.
func (g *graph) numbers(pol *policy, a abi, mark uint32) []segment {
	other := g.ret(pol.def)
	segments := []segment{{0, other}}
	private := false
	for _, nr := range pol.sorted(a) {
		if nr >= armPrivateFirst && !private {
			private = true
			segments = append(segments, segment{pol.end(a), g.ret(pol.beyond(a))}, segment{armPrivateFirst, other})
		}
		segments = append(segments,
			segment{mark | uint32(nr), g.outcome(pol.calls[a][nr], pol.def, a)},
			segment{mark | uint32(nr+1), other})
	}
	if !private {
		segments = append(segments, segment{mark | pol.end(a), g.ret(pol.beyond(a))})
	}
	return segments
}
