package seccomp_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	moby "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	compiler "github.com/berth-dev/berth/containerizer/launch/seccomp"
	"github.com/berth-dev/berth/isolators/isolatortest"
	"github.com/berth-dev/berth/isolators/security/seccomp"
)

// newIsolator returns an isolator that checks with the real compiler.
func newIsolator(tb testing.TB, o seccomp.Options) *seccomp.Isolator {
	tb.Helper()
	o.Check = func(p *specs.LinuxSeccomp) error {
		_, err := compiler.Compile(p)
		return err
	}
	i, err := seccomp.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	return i
}

func choice(profile string) func() *containerizer.Spec {
	return func() *containerizer.Spec {
		return &containerizer.Spec{Security: containerizer.Security{Seccomp: profile}}
	}
}

// file writes a profile and returns its path.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "profile.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const small = `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chmod"],"action":"SCMP_ACT_ERRNO"}]}`

func TestConformance(t *testing.T) {
	isolatortest.Run(t, isolatortest.Config{
		New: func(t *testing.T) containerizer.Isolator {
			t.Helper()
			return newIsolator(t, seccomp.Options{})
		},
		Spec:      choice("default"),
		ChildSpec: choice("unconfined"),
		Refused: map[string]func() *containerizer.Spec{
			"relative path":     choice("profile.json"),
			"word":              choice("Unconfined"),
			"not JSON":          choice(file(t, "#!/bin/sh")),
			"empty":             choice(file(t, "")),
			"null":              choice(file(t, "null")),
			"list":              choice(file(t, "[]")),
			"no default action": choice(file(t, "{}")),
			"cut off":           choice(file(t, small[:40])),
			"two documents":     choice(file(t, small+small)),
			"too large":         choice(file(t, small+strings.Repeat(" ", 1<<20))),
			"deep":              choice(file(t, `{"x":`+strings.Repeat("[", 1<<19))),
			"null rule":         choice(file(t, `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[null]}`)),
			"rule without name": choice(file(t, `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"action":"SCMP_ACT_KILL"}]}`)),
			"unknown action":    choice(file(t, `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"DENY"}]}`)),
			"notify":            choice(file(t, `{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x","syscalls":[{"names":["read"],"action":"SCMP_ACT_NOTIFY"}]}`)),
			"name and names":    choice(file(t, `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"read","names":["write"],"action":"SCMP_ACT_KILL"}]}`)),
			"both archs":        choice(file(t, `{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}`)),
			"bad minKernel":     choice(file(t, `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_KILL","includes":{"minKernel":"new"}}]}`)),
			"directory":         choice(t.TempDir()),
			"device":            choice("/dev/zero"),
			"FIFO":              choice(fifo(t)),
		},
	})
}

// fifo has no writer: opening it without O_NONBLOCK would hang.
func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func prepare(tb testing.TB, i *seccomp.Isolator, s containerizer.Security, capabilities ...string) (*specs.LinuxSeccomp, error) {
	tb.Helper()
	c := &containerizer.Container{
		ID:     "test",
		Spec:   &containerizer.Spec{Security: s},
		Launch: &containerizer.LaunchInfo{Capabilities: &specs.LinuxCapabilities{Bounding: capabilities}},
	}
	info, err := i.Prepare(tb.Context(), c)
	if info == nil || err != nil {
		return nil, err
	}
	return info.Seccomp, nil
}

func TestChoices(t *testing.T) {
	path := file(t, small)
	want := &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls:      []specs.LinuxSyscall{{Names: []string{"chmod"}, Action: specs.ActErrno}},
	}
	builtIn, err := prepare(t, newIsolator(t, seccomp.Options{}), containerizer.Security{})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		initial  string
		security containerizer.Security
		want     *specs.LinuxSeccomp
	}{
		"default":                  {"", containerizer.Security{Seccomp: "default"}, builtIn},
		"unconfined":               {"", containerizer.Security{Seccomp: "unconfined"}, nil},
		"file":                     {"", containerizer.Security{Seccomp: path}, want},
		"privileged":               {"", containerizer.Security{Privileged: true}, nil},
		"privileged ignores files": {"", containerizer.Security{Privileged: true, Seccomp: path}, nil},
		"default is a file":        {path, containerizer.Security{}, want},
		"default is unconfined":    {"unconfined", containerizer.Security{Seccomp: "default"}, nil},
		"file beats unconfined":    {"unconfined", containerizer.Security{Seccomp: path}, want},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := prepare(t, newIsolator(t, seccomp.Options{Default: tc.initial}), tc.security)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("profile (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := seccomp.New(seccomp.Options{Default: "x.json"}); !errors.Is(err, containerizer.ErrInvalid) {
		t.Errorf("New with a relative path: %v, want ErrInvalid", err)
	}
	missing := containerizer.Security{Seccomp: filepath.Join(t.TempDir(), "none.json")}
	if _, err := prepare(t, newIsolator(t, seccomp.Options{}), missing); !errors.Is(err, containerizer.ErrNotFound) || !strings.Contains(err.Error(), "none.json") {
		t.Errorf("missing file: %v, want ErrNotFound with its name", err)
	}
}

// TestBuiltInProfileIsDockers compares with what Docker's own code makes of it.
func TestBuiltInProfileIsDockers(t *testing.T) {
	for name, capabilities := range map[string][]string{
		"none": nil, "SYS_ADMIN": {"CAP_SYS_ADMIN"}, "several": {"CAP_SYS_PTRACE", "CAP_BPF", "CAP_SYSLOG", "CAP_DAC_READ_SEARCH"},
	} {
		t.Run(name, func(t *testing.T) {
			want, err := moby.GetDefaultProfile(&specs.Spec{Process: &specs.Process{
				Capabilities: &specs.LinuxCapabilities{Bounding: capabilities},
			}})
			if err != nil {
				t.Fatal(err)
			}
			got, err := prepare(t, newIsolator(t, seccomp.Options{}), containerizer.Security{}, capabilities...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("profile (-want +got):\n%s", diff)
			}
		})
	}
}

// TestCapabilitiesOpenCalls checks the calls that come with a capability.
func TestCapabilitiesOpenCalls(t *testing.T) {
	i := newIsolator(t, seccomp.Options{})
	allowed := func(name string, capabilities ...string) bool {
		p, err := prepare(t, i, containerizer.Security{}, capabilities...)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(p.Syscalls, func(s specs.LinuxSyscall) bool {
			return s.Action == specs.ActAllow && len(s.Args) == 0 && slices.Contains(s.Names, name)
		})
	}
	for call, capability := range map[string]string{
		"mount": "CAP_SYS_ADMIN", "clone3": "CAP_SYS_ADMIN", "sethostname": "CAP_SYS_ADMIN", "open_by_handle_at": "CAP_DAC_READ_SEARCH",
		"reboot": "CAP_SYS_BOOT", "chroot": "CAP_SYS_CHROOT", "init_module": "CAP_SYS_MODULE", "settimeofday": "CAP_SYS_TIME",
	} {
		if allowed(call) || !allowed(call, capability) {
			t.Errorf("%s: allowed %t without and %t with %s", call, allowed(call), allowed(call, capability), capability)
		}
	}
	for _, never := range []string{"keyctl", "add_key", "request_key", "io_uring_setup", "userfaultfd", "kexec_load"} {
		if allowed(never) {
			t.Errorf("%s is allowed", never)
		}
	}
}

func TestConditions(t *testing.T) {
	rule := func(filter string) []byte {
		return fmt.Appendf(nil, `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW",%s}]}`, filter)
	}
	target := seccomp.Target{GOARCH: "arm64", Kernel: moby.KernelVersion{Kernel: 5, Major: 14}, Capabilities: []string{"CAP_KILL", "CAP_BPF"}}
	for name, tc := range map[string]struct {
		filter string
		want   bool
	}{
		"none":                    {`"comment":""`, true},
		"empty":                   {`"includes":{},"excludes":{}`, true},
		"null":                    {`"includes":null,"excludes":null`, true},
		"capability":              {`"includes":{"caps":["CAP_KILL"]}`, true},
		"one capability missing":  {`"includes":{"caps":["CAP_KILL","CAP_CHOWN"]}`, false},
		"excluded capability":     {`"excludes":{"caps":["CAP_CHOWN","CAP_BPF"]}`, false},
		"not excluded":            {`"excludes":{"caps":["CAP_CHOWN"]}`, true},
		"architecture":            {`"includes":{"arches":["amd64","arm64"]}`, true},
		"other architecture":      {`"includes":{"arches":["amd64"]}`, false},
		"excluded architecture":   {`"excludes":{"arches":["arm64"]}`, false},
		"same kernel":             {`"includes":{"minKernel":"5.14"}`, true},
		"older kernel":            {`"includes":{"minKernel":"4.20"}`, true},
		"newer kernel":            {`"includes":{"minKernel":"5.15"}`, false},
		"much newer kernel":       {`"includes":{"minKernel":"6.0"}`, false},
		"excluded by kernel":      {`"excludes":{"minKernel":"5.14"}`, false},
		"included and excluded":   {`"includes":{"caps":["CAP_KILL"]},"excludes":{"caps":["CAP_BPF"]}`, false},
		"both hold":               {`"includes":{"caps":["CAP_KILL"],"arches":["arm64"]},"excludes":{"minKernel":"6.1"}`, true},
		"one include fails of it": {`"includes":{"caps":["CAP_KILL"],"arches":["s390x"]}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := target.Resolve(rule(tc.filter))
			if err != nil {
				t.Fatal(err)
			}
			if got := len(p.Syscalls) == 1; got != tc.want {
				t.Errorf("the rule holds: %t, want %t", got, tc.want)
			}
		})
	}
}

func TestForms(t *testing.T) {
	target := seccomp.Target{GOARCH: "arm64"}
	for name, tc := range map[string]struct {
		text string
		want *specs.LinuxSeccomp
	}{
		"archMap of this machine": {
			`{"defaultAction":"SCMP_ACT_LOG","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]},{"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]}]}`,
			&specs.LinuxSeccomp{DefaultAction: specs.ActLog, Architectures: []specs.Arch{specs.ArchAARCH64, specs.ArchARM}, Syscalls: []specs.LinuxSyscall{}},
		},
		"runtime specification": {
			`{"defaultAction":"SCMP_ACT_LOG","architectures":["SCMP_ARCH_ARM"],"flags":["SECCOMP_FILTER_FLAG_LOG"]}`,
			&specs.LinuxSeccomp{DefaultAction: specs.ActLog, Architectures: []specs.Arch{specs.ArchARM}, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog}, Syscalls: []specs.LinuxSyscall{}},
		},
		"empty flags stay flags": {
			`{"defaultAction":"SCMP_ACT_LOG","flags":[]}`,
			&specs.LinuxSeccomp{DefaultAction: specs.ActLog, Flags: []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_TSYNC"}, Syscalls: []specs.LinuxSyscall{}},
		},
		"old name": {
			`{"defaultAction":"SCMP_ACT_LOG","syscalls":[{"name":"read","action":"SCMP_ACT_TRAP"}]}`,
			&specs.LinuxSeccomp{DefaultAction: specs.ActLog, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActTrap}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := target.Resolve([]byte(tc.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("profile (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseKernelVersion(t *testing.T) {
	for release, want := range map[string]moby.KernelVersion{
		"6.18.4":           {Kernel: 6, Major: 18},
		"5.14-rc3":         {Kernel: 5, Major: 14},
		"6.1.0-9-amd64":    {Kernel: 6, Major: 1},
		"5.15+":            {Kernel: 5, Major: 15},
		"4.19.0-custom.23": {Kernel: 4, Major: 19},
	} {
		if got, err := seccomp.ParseKernelVersion(release); err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", release, got, err, want)
		}
	}
	for _, release := range []string{"", "6", "6.", "linux", "6.x", "-1.2"} {
		if v, err := seccomp.ParseKernelVersion(release); err == nil {
			t.Errorf("%q is %v, want an error", release, v)
		}
	}
}

// FuzzProfile feeds profile files to the resolver and what comes out to the
// compiler: neither may fall over.
func FuzzProfile(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],"syscalls":[{"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}],"excludes":{"caps":["CAP_SYS_ADMIN"]}}]}`))
	f.Add([]byte(`{"syscalls":[null]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := seccomp.Target{GOARCH: "amd64"}.Resolve(data)
		if err != nil {
			if !errors.Is(err, containerizer.ErrInvalid) && !errors.Is(err, containerizer.ErrUnsupported) {
				t.Errorf("error without a class: %v", err)
			}
			return
		}
		if filter, err := compiler.Compile(p); err == nil && (len(filter.Instructions) == 0 || len(filter.Instructions) > 4096) {
			t.Errorf("a filter of %d instructions", len(filter.Instructions))
		}
	})
}

// BenchmarkPrepare is what the default profile costs a launch before the filter is
// looked up.
func BenchmarkPrepare(b *testing.B) {
	i, err := seccomp.New(seccomp.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := prepare(b, i, containerizer.Security{}, "CAP_CHOWN", "CAP_KILL", "CAP_SYS_CHROOT"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPrepareAndFilter adds the lookup, with an empty cache in memory and a
// filled one on disk, as in a one-shot command.
func BenchmarkPrepareAndFilter(b *testing.B) {
	dir := b.TempDir()
	b.ReportAllocs()
	for b.Loop() {
		cache := compiler.NewCache(dir)
		check := func(p *specs.LinuxSeccomp) error {
			_, err := cache.Filter(p)
			return err
		}
		i, err := seccomp.New(seccomp.Options{Check: check})
		if err != nil {
			b.Fatal(err)
		}
		p, err := prepare(b, i, containerizer.Security{}, "CAP_CHOWN", "CAP_KILL", "CAP_SYS_CHROOT")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := cache.Filter(p); err != nil { // the launcher's own lookup
			b.Fatal(err)
		}
	}
}
