package seccomp

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	profile "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// noFlags stands for an empty list of flags. It has no effect where berth loads
// filters, and in contrast to an empty list it survives being written as JSON:
// a missing list means SPEC_ALLOW.
const noFlags specs.LinuxSeccompFlag = "SECCOMP_FILTER_FLAG_TSYNC"

// target is what conditional rules of a profile are about.
type target struct {
	goarch       string
	kernel       profile.KernelVersion
	capabilities []string
}

// resolve returns the profile doc for t, with the rules that hold for it.
func (t *target) resolve(doc *profile.Seccomp) (*specs.LinuxSeccomp, error) {
	if doc.DefaultAction == "" {
		return nil, fmt.Errorf("it has no defaultAction; no filter is %q: %w", Unconfined, containerizer.ErrInvalid)
	}
	if len(doc.Architectures) > 0 && len(doc.ArchMap) > 0 {
		return nil, fmt.Errorf("it has both architectures and archMap: %w", containerizer.ErrInvalid)
	}
	out := doc.LinuxSeccomp
	for _, a := range doc.ArchMap {
		if a.Arch == nativeArch(t.goarch) {
			out.Architectures = append([]specs.Arch{a.Arch}, a.SubArches...)
		}
	}
	if out.Flags != nil && len(out.Flags) == 0 {
		out.Flags = []specs.LinuxSeccompFlag{noFlags}
	}
	out.Syscalls = make([]specs.LinuxSyscall, 0, len(doc.Syscalls))
	for i, rule := range doc.Syscalls {
		if rule == nil {
			return nil, fmt.Errorf("rule %d is null: %w", i, containerizer.ErrInvalid)
		}
		if !t.included(rule) {
			continue
		}
		call := rule.LinuxSyscall
		if rule.Name != "" { //nolint:staticcheck // the old form of Docker's profiles
			if len(call.Names) > 0 {
				return nil, fmt.Errorf("rule %d has both name and names: %w", i, containerizer.ErrInvalid)
			}
			call.Names = []string{rule.Name} //nolint:staticcheck // as above
		}
		if call.Action == specs.ActNotify {
			return nil, fmt.Errorf("rule %d: action %s needs an agent (listenerPath), which is not possible: %w",
				i, call.Action, containerizer.ErrUnsupported)
		}
		out.Syscalls = append(out.Syscalls, call)
	}
	return &out, nil
}

// included says whether rule holds for t: all that its includes list is true, and
// nothing that its excludes list.
func (t *target) included(rule *profile.Syscall) bool {
	if in := rule.Includes; in != nil {
		if len(in.Arches) > 0 && !slices.Contains(in.Arches, t.goarch) ||
			slices.ContainsFunc(in.Caps, t.lacks) ||
			in.MinKernel != nil && !t.atLeast(*in.MinKernel) {
			return false
		}
	}
	if ex := rule.Excludes; ex != nil {
		if slices.Contains(ex.Arches, t.goarch) ||
			slices.ContainsFunc(ex.Caps, t.has) ||
			ex.MinKernel != nil && t.atLeast(*ex.MinKernel) {
			return false
		}
	}
	return true
}

func (t *target) has(capability string) bool { return slices.Contains(t.capabilities, capability) }

func (t *target) lacks(capability string) bool { return !t.has(capability) }

func (t *target) atLeast(v profile.KernelVersion) bool {
	return t.kernel.Kernel > v.Kernel || t.kernel.Kernel == v.Kernel && t.kernel.Major >= v.Major
}

// nativeArch is the architecture of the specification for one of Go.
func nativeArch(goarch string) specs.Arch {
	switch goarch {
	case "amd64":
		return specs.ArchX86_64
	case "arm64":
		return specs.ArchAARCH64
	}
	return ""
}

func kernelVersion() (profile.KernelVersion, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return profile.KernelVersion{}, fmt.Errorf("ask for the kernel's version: %w", err)
	}
	return parseKernelVersion(unix.ByteSliceToString(uts.Release[:]))
}

// parseKernelVersion reads the first two numbers of a release, "6.18.4-foo".
func parseKernelVersion(release string) (v profile.KernelVersion, err error) {
	first, rest, _ := strings.Cut(release, ".")
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	if v.Kernel, err = strconv.ParseUint(first, 10, 16); err == nil {
		v.Major, err = strconv.ParseUint(rest[:end], 10, 16)
	}
	if err != nil {
		return v, fmt.Errorf("kernel release %q: %w", release, err)
	}
	return v, nil
}
