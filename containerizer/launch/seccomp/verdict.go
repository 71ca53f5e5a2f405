package seccomp

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// verdict is what a filter returns for a call: an action and 16 bits of data
// (linux/seccomp.h, SECCOMP_RET_*).
type verdict uint32

const (
	killProcess verdict = 0x80000000
	killThread  verdict = 0x00000000
	trap        verdict = 0x00030000
	errno       verdict = 0x00050000
	trace       verdict = 0x7ff00000
	logged      verdict = 0x7ffc0000
	allow       verdict = 0x7fff0000

	actionMask verdict = 0xffff0000
)

const (
	errnoPerm  = 1    // EPERM
	errnoNoSys = 38   // ENOSYS
	maxErrno   = 4095 // the kernel's MAX_ERRNO; greater values would be cut to it
)

// leniency orders actions as the kernel does when several filters answer: the
// lowest is the most restrictive.
func (v verdict) leniency() int32 { return int32(v & actionMask) }

// permissive says whether calls with verdict v may go ahead. Like runc, that
// includes TRACE: a tracer emulates calls, unknown ones too.
func (v verdict) permissive() bool { return v.leniency() >= trace.leniency() }

func (v verdict) String() string {
	switch v & actionMask { //nolint:exhaustive // the mask is no verdict
	case killProcess:
		return "KILL_PROCESS"
	case killThread:
		return "KILL_THREAD"
	case trap:
		return "TRAP"
	case errno:
		return fmt.Sprintf("ERRNO(%d)", v&^actionMask)
	case trace:
		return fmt.Sprintf("TRACE(%d)", v&^actionMask)
	case logged:
		return "LOG"
	case allow:
		return "ALLOW"
	}
	return fmt.Sprintf("%#x", uint32(v))
}

// newVerdict translates an action. As in runc, ERRNO and TRACE without a value
// carry EPERM.
func newVerdict(action specs.LinuxSeccompAction, ret *uint) (verdict, error) {
	var v verdict
	switch action {
	case specs.ActErrno, specs.ActTrace:
		return newDataVerdict(action, ret)
	case specs.ActAllow:
		v = allow
	case specs.ActLog:
		v = logged
	case specs.ActTrap:
		v = trap
	case specs.ActKill, specs.ActKillThread:
		v = killThread
	case specs.ActKillProcess:
		v = killProcess
	case specs.ActNotify:
		return 0, fmt.Errorf("action %s: handing system calls to an agent (listenerPath) is not possible; "+
			"use SCMP_ACT_ERRNO or SCMP_ACT_TRACE: %w", action, containerizer.ErrUnsupported)
	default:
		return 0, fmt.Errorf("action %q is unknown: %w", action, containerizer.ErrInvalid)
	}
	if ret != nil {
		// config-linux.md, "Seccomp": the runtime must fail when the action does not
		// support an errno.
		return 0, fmt.Errorf("action %s takes no errno value, %d is given: %w", action, *ret, containerizer.ErrInvalid)
	}
	return v, nil
}

func newDataVerdict(action specs.LinuxSeccompAction, ret *uint) (verdict, error) {
	data := uint(errnoPerm)
	if ret != nil {
		data = *ret
	}
	if action == specs.ActTrace {
		if data > 0xffff {
			return 0, fmt.Errorf("action %s: value %d is above %d: %w", action, data, 0xffff, containerizer.ErrInvalid)
		}
		return trace | verdict(data), nil
	}
	if data > maxErrno {
		return 0, fmt.Errorf("action %s: errno %d is above %d: %w", action, data, maxErrno, containerizer.ErrInvalid)
	}
	return errno | verdict(data), nil
}

// newFlags translates flags. A profile that does not mention flags gets
// SPEC_ALLOW, as in runc: without it the kernel turns the mitigation of
// speculative store bypass on, which slows the workload.
func newFlags(flags []specs.LinuxSeccompFlag) (uint, error) {
	if flags == nil {
		return FlagSpecAllow, nil
	}
	var f uint
	for _, flag := range flags {
		switch flag {
		case specs.LinuxSeccompFlagLog:
			f |= FlagLog
		case specs.LinuxSeccompFlagSpecAllow:
			f |= FlagSpecAllow
		case "SECCOMP_FILTER_FLAG_TSYNC":
			// Synchronises the threads of the loading process. It has one: the filter is
			// loaded right before execve.
		case specs.LinuxSeccompFlagWaitKillableRecv:
			// Changes how a caller waits for a listener's answer. There is no listener, as
			// NOTIFY is refused, and without one the kernel rejects the flag.
		default:
			return 0, fmt.Errorf("flag %q is unknown: %w", flag, containerizer.ErrInvalid)
		}
	}
	return f, nil
}
