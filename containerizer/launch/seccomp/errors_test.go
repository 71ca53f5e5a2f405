package seccomp_test

import (
	"errors"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch/seccomp"
)

func TestCompileRefuses(t *testing.T) {
	big, one := uint(5000), uint(1)
	rule := func(action specs.LinuxSeccompAction, ret *uint, names []string, args ...specs.LinuxSeccompArg) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Names: names, Action: action, ErrnoRet: ret, Args: args}}}
	}
	read := []string{"read"}
	var wide []specs.LinuxSeccompArg
	for i := range uint64(4000) {
		wide = append(wide, specs.LinuxSeccompArg{Index: 1, Op: specs.OpMaskedEqual, Value: 0xfffffff0, ValueTwo: i << 4})
	}
	for name, tc := range map[string]struct {
		profile *specs.LinuxSeccomp
		class   error
		says    string
	}{
		"no default action":    {&specs.LinuxSeccomp{}, containerizer.ErrInvalid, `default action ""`},
		"unknown default":      {&specs.LinuxSeccomp{DefaultAction: "ALLOW"}, containerizer.ErrInvalid, `"ALLOW"`},
		"default errno":        {&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, DefaultErrnoRet: &one}, containerizer.ErrInvalid, "takes no errno"},
		"unknown architecture": {&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{"SCMP_ARCH_VAX"}}, containerizer.ErrInvalid, "SCMP_ARCH_VAX"},
		"unknown flag":         {&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"FAST"}}, containerizer.ErrInvalid, `flag "FAST"`},
		"unknown action":       {rule("SCMP_ACT_MAYBE", nil, read), containerizer.ErrInvalid, "rule 0: action"},
		"notify":               {rule(specs.ActNotify, nil, read), containerizer.ErrUnsupported, "listenerPath"},
		"notify as default":    {&specs.LinuxSeccomp{DefaultAction: specs.ActNotify}, containerizer.ErrUnsupported, "SCMP_ACT_NOTIFY"},
		"errno too large":      {rule(specs.ActErrno, &big, read), containerizer.ErrInvalid, "errno 5000"},
		"errno for KILL":       {rule(specs.ActKill, &one, read), containerizer.ErrInvalid, "SCMP_ACT_KILL"},
		"no names":             {rule(specs.ActAllow, nil, nil), containerizer.ErrInvalid, "names no system call"},
		"unknown names only":   {rule(specs.ActAllow, nil, []string{"raed", "no_such_call"}), containerizer.ErrInvalid, "none of its 2 names"},
		"argument 6":           {rule(specs.ActAllow, nil, read, specs.LinuxSeccompArg{Index: 6, Op: specs.OpEqualTo}), containerizer.ErrInvalid, "index 6"},
		"operator":             {rule(specs.ActAllow, nil, read, specs.LinuxSeccompArg{Op: "=="}), containerizer.ErrInvalid, `"=="`},
		"too many instructions": {
			rule(specs.ActAllow, nil, read, wide...), containerizer.ErrInvalid, "4096 instructions",
		},
		"too many rules": {
			rule(specs.ActAllow, nil, strings.Split(strings.Repeat("read,", 100)+"read", ","), wide...), containerizer.ErrInvalid, "65536 rules",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := seccomp.Compile(tc.profile)
			if f != nil || !errors.Is(err, tc.class) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, %v; want %v saying %q", f, err, tc.class, tc.says)
			}
		})
	}
}

func TestCompileForOtherMachine(t *testing.T) {
	if _, err := seccomp.CompileFor(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow}, "riscv64"); !errors.Is(err, containerizer.ErrUnsupported) {
		t.Errorf("got %v, want ErrUnsupported", err)
	}
}

func TestFlags(t *testing.T) {
	for name, tc := range map[string]struct {
		flags []specs.LinuxSeccompFlag
		want  uint
	}{
		"none given":          {nil, seccomp.FlagSpecAllow},
		"empty":               {[]specs.LinuxSeccompFlag{}, 0},
		"log":                 {[]specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog}, seccomp.FlagLog},
		"both":                {[]specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow}, seccomp.FlagLog | seccomp.FlagSpecAllow},
		"without any meaning": {[]specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_TSYNC", specs.LinuxSeccompFlagWaitKillableRecv}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := seccomp.Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: tc.flags})
			if err != nil || f.Flags != tc.want {
				t.Errorf("got %v, %v; want flags %#x", f, err, tc.want)
			}
		})
	}
}
