package seccomp_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	profile "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer/launch/seccomp"
)

// dockerProfile is Docker's default profile for the given capabilities.
func dockerProfile(tb testing.TB, capabilities ...string) *specs.LinuxSeccomp {
	tb.Helper()
	p, err := profile.GetDefaultProfile(&specs.Spec{
		Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: capabilities}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// pathLength is the mean number of instructions for the calls that the kernel
// evaluates when it loads a filter: all numbers of the given architectures.
func pathLength(program []seccomp.SockFilter, audit []uint32) float64 {
	total, calls := 0, 0
	for _, arch := range audit {
		for nr := range uint32(472) {
			_, steps := run(program, call{nr: nr, arch: arch})
			total += steps
			calls++
		}
	}
	return float64(total) / float64(calls)
}

// TestDefaultProfileSize holds the size of the filter for Docker's default
// profile with all ABIs: it decides how long loading takes. libseccomp makes 715
// instructions for two ABIs.
func TestDefaultProfileSize(t *testing.T) {
	p := dockerProfile(t)
	type size struct{ Instructions, Path int }
	for name, tc := range map[string]struct {
		goarch string
		listed []specs.Arch
		audit  []uint32 // what the kernel evaluates ahead
		want   size
	}{
		"x86-64":      {"amd64", nil, []uint32{archX86_64}, size{80, 10}},
		"x86-64, all": {"amd64", []specs.Arch{specs.ArchX86, specs.ArchX32}, []uint32{archX86_64, archX86}, size{160, 12}},
		"arm64":       {"arm64", nil, []uint32{archARM64}, size{81, 10}},
		"arm64, all":  {"arm64", []specs.Arch{specs.ArchARM}, []uint32{archARM64, archARM}, size{172, 11}},
	} {
		t.Run(name, func(t *testing.T) {
			p.Architectures = tc.listed
			f, err := seccomp.CompileFor(p, tc.goarch)
			if err != nil {
				t.Fatal(err)
			}
			got := size{len(f.Instructions), int(pathLength(f.Instructions, tc.audit) + 0.5)}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("size (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAllowedCallsNeedNoArguments checks what makes allowed calls free: on their
// path through the program no argument is loaded, so that the kernel finds out when
// the filter is loaded that they are always allowed.
func TestAllowedCallsNeedNoArguments(t *testing.T) {
	p := dockerProfile(t)
	p.Architectures = []specs.Arch{specs.ArchX86, specs.ArchX32}
	f, err := seccomp.CompileFor(p, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range seccomp.SyscallNames() {
		unconditional := slices.ContainsFunc(p.Syscalls, func(s specs.LinuxSyscall) bool {
			return s.Action == specs.ActAllow && len(s.Args) == 0 && slices.Contains(s.Names, name)
		})
		for column, audit := range map[int]uint32{columnX86_64: archX86_64, columnX86: archX86} {
			nr := seccomp.Number(name, column)
			if !unconditional || nr < 0 {
				continue
			}
			if got, _ := runAhead(f.Instructions, call{nr: uint32(nr), arch: audit}); got != 0x7fff0000 {
				t.Errorf("%s (%d of arch %#x): verdict %#x", name, nr, audit, got)
			}
		}
	}
}

// runAhead runs program as the kernel does ahead of any call, without arguments.
func runAhead(program []seccomp.SockFilter, c call) (verdict uint32, steps int) {
	ahead := slices.Clone(program)
	for i, in := range ahead {
		if in.Code == 0x20 && in.K > 4 {
			ahead[i] = seccomp.SockFilter{Code: 0x06} // it gives up here
		}
	}
	return run(ahead, c)
}

func TestFilterString(t *testing.T) {
	p := &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno,
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read"}, Action: specs.ActAllow},
			{Names: []string{"personality"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Op: specs.OpLessThan, Value: 9}}},
		},
	}
	f, err := seccomp.CompileFor(p, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	got := f.String()
	want := strings.TrimPrefix(`
   0  load  arch
   1  jeq   0xc000003e, 2, 15
   2  load  nr
   3  jge   0x88, 4, 7
   4  jge   0x40000000, 5, 6
   5  jge   0xffffffff, 6, 15
   6  ret   ERRNO(38)
   7  jge   0x1, 8, 14
   8  jge   0x87, 9, 13
   9  load  arg0.hi
  10  jge   0x1, 13, 11
  11  load  arg0.lo
  12  jge   0x9, 13, 14
  13  ret   ERRNO(1)
  14  ret   ALLOW
  15  ret   KILL_PROCESS
`, "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("listing (-want +got):\n%s", diff)
	}
}
