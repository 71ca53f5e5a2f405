package seccomp_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer/launch/seccomp"
)

var machines = map[string]struct {
	arches []specs.Arch
	audit  []uint32
}{
	"amd64": {[]specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}, []uint32{archX86_64, archX86, archX86_64, archARM}},
	"arm64": {[]specs.Arch{specs.ArchAARCH64, specs.ArchARM, specs.ArchMIPS}, []uint32{archARM64, archARM, archX86}},
}

// TestCompiledProfileMeansWhatTheReferenceSays compares compiled random profiles
// with the reference evaluator, on calls at and next to every value that occurs.
func TestCompiledProfileMeansWhatTheReferenceSays(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		for goarch := range machines {
			checkAgainstReference(t, r, goarch, randomProfile(r, goarch))
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}`), uint64(1))
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["socket"],"action":"SCMP_ACT_KILL","args":[{"index":0,"value":40,"op":"SCMP_CMP_EQ"}]}]}`), uint64(2))
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		var p specs.LinuxSeccomp
		if json.Unmarshal(data, &p) != nil {
			return
		}
		r := rand.New(rand.NewPCG(seed, 2))
		for goarch := range machines {
			if _, err := seccomp.CompileFor(&p, goarch); err == nil {
				checkAgainstReference(t, r, goarch, &p)
			}
		}
	})
}

func checkAgainstReference(t *testing.T, r *rand.Rand, goarch string, p *specs.LinuxSeccomp) {
	t.Helper()
	filter, err := seccomp.CompileFor(p, goarch)
	if err != nil {
		t.Fatalf("compile: %v\n%s", err, marshal(t, p))
	}
	for _, c := range probes(r, goarch, p) {
		want := reference(p, goarch, c)
		if got, _ := run(filter.Instructions, c); got != want {
			t.Fatalf("%s: verdict %#x, want %#x on %s\n%s\n%s", c, got, want, goarch, marshal(t, p), filter)
		}
	}
}

func marshal(t *testing.T, p *specs.LinuxSeccomp) []byte {
	t.Helper()
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// interesting are values at the edges of words and of Docker's rules.
var interesting = []uint64{
	0, 1, 2, 3, 4, 5, 8, 9, 40, 0xffff, 0x10003, 0x7fffffff, 0x80000000, 0xffffffff, 0x1_00000000, 0x1_00000005,
	0x7e020000, 0xffffffff_00000000, math.MaxUint64 - 1, math.MaxUint64,
}

var actions = []specs.LinuxSeccompAction{
	specs.ActAllow, specs.ActErrno, specs.ActKill, specs.ActKillProcess, specs.ActKillThread, specs.ActTrap,
	specs.ActTrace, specs.ActLog, specs.ActErrno, specs.ActAllow,
}

var operators = []specs.LinuxSeccompOperator{
	specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual,
	specs.OpGreaterThan, specs.OpMaskedEqual, specs.OpEqualTo,
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func randomAction(r *rand.Rand) (specs.LinuxSeccompAction, *uint) {
	a := pick(r, actions)
	if r.IntN(2) == 0 && (a == specs.ActErrno || a == specs.ActTrace) {
		n := uint(r.IntN(4096))
		return a, &n
	}
	return a, nil
}

func randomProfile(r *rand.Rand, goarch string) *specs.LinuxSeccomp {
	p := &specs.LinuxSeccomp{}
	p.DefaultAction, p.DefaultErrnoRet = randomAction(r)
	for _, a := range machines[goarch].arches {
		if r.IntN(3) > 0 {
			p.Architectures = append(p.Architectures, a)
		}
	}
	names := seccomp.SyscallNames()
	if r.IntN(2) == 0 { // a few names, so that rules meet
		few := []string{"socket", "socketcall", "ipc", "shmat", "clone", "semop", "cacheflush", "set_tls", "rt_sigaction", "no_such_call"}
		for range 4 {
			few = append(few, pick(r, names))
		}
		names = few
	}
	for range 1 + r.IntN(12) {
		s := specs.LinuxSyscall{}
		s.Action, s.ErrnoRet = randomAction(r)
		for range 1 + r.IntN(1+r.IntN(30)) {
			s.Names = append(s.Names, pick(r, names))
		}
		for range r.IntN(4) {
			s.Args = append(s.Args, specs.LinuxSeccompArg{
				Index: uint(r.IntN(1 + r.IntN(6))), Op: pick(r, operators), Value: pick(r, interesting), ValueTwo: pick(r, interesting),
			})
		}
		p.Syscalls = append(p.Syscalls, s)
	}
	p.Syscalls[0].Names = append(p.Syscalls[0].Names, "read")
	return p
}

// probes returns calls around everything p speaks of.
func probes(r *rand.Rand, goarch string, p *specs.LinuxSeccomp) []call {
	numbers := []uint32{0, 511, 512, 547, 548, 0xf0000, 0xf0001, 0xf0006, 0xf0007, 0x7fffffff, 0xfffffffe, 0xffffffff, 102, 117}
	values := interesting
	for _, s := range p.Syscalls {
		for _, name := range s.Names {
			for column := columnX86_64; column <= columnARM; column++ {
				if n := seccomp.Number(name, column); n >= 0 && len(numbers) < 200 {
					numbers = append(numbers, uint32(n-1), uint32(n), uint32(n+1))
				}
			}
		}
		for _, a := range s.Args {
			values = append(values, a.Value-1, a.Value, a.Value+1, a.ValueTwo, a.Value&^a.ValueTwo|a.ValueTwo, a.Value|1<<32)
		}
	}
	var calls []call
	for _, n := range numbers {
		for _, audit := range machines[goarch].audit {
			c := call{nr: n, arch: audit}
			if audit == archX86_64 && r.IntN(2) == 0 && n != 0xffffffff {
				c.nr |= x32Bit
			}
			for range 2 {
				for i := range c.args {
					c.args[i] = pick(r, values)
				}
				calls = append(calls, c)
			}
			c.args = [6]uint64{uint64(r.IntN(26)), 0, 0, 0, 0, 0} // a number of a multiplexer
			calls = append(calls, c)
		}
	}
	return calls
}
