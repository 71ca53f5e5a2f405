package seccomp_test

import (
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
// evaluates when it loads a filter: all numbers of the native and the compat ABI.
func pathLength(program []seccomp.SockFilter) float64 {
	total, calls := 0, 0
	for _, arch := range []uint32{archX86_64, archX86} {
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
	p.Architectures = []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}
	type size struct{ instructions, path int }
	sizes := map[string]size{}
	for _, a := range []string{"x86-64", "all"} {
		if a == "x86-64" {
			p.Architectures = nil
		} else {
			p.Architectures = []specs.Arch{specs.ArchX86, specs.ArchX32}
		}
		f, err := seccomp.CompileFor(p, "amd64")
		if err != nil {
			t.Fatal(err)
		}
		sizes[a] = size{len(f.Instructions), int(pathLength(f.Instructions) + 0.5)}
	}
	want := map[string]size{"x86-64": {80, 7}, "all": {160, 12}}
	if diff := cmp.Diff(want, sizes, cmp.AllowUnexported(size{})); diff != "" {
		t.Errorf("sizes (-want +got):\n%s", diff)
	}
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
