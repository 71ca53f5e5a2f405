package seccomp

import (
	"encoding/binary"
	"fmt"
)

// Flags of seccomp(2) that a [Filter] may carry.
const (
	FlagLog       = 1 << 1 // SECCOMP_FILTER_FLAG_LOG
	FlagSpecAllow = 1 << 2 // SECCOMP_FILTER_FLAG_SPEC_ALLOW
)

// maxInstructions is the kernel's limit on a program (BPF_MAXINSNS).
const maxInstructions = 4096

// SockFilter is one instruction, struct sock_filter of <linux/filter.h>.
type SockFilter struct {
	Code   uint16
	JT, JF uint8
	K      uint32
}

// sockFilterSize is the size of a [SockFilter] for the kernel.
const sockFilterSize = 8

// Filter is a program ready for seccomp(SECCOMP_SET_MODE_FILTER, Flags, …). It
// is immutable and may be shared.
type Filter struct {
	Instructions []SockFilter
	Flags        uint
}

// Bytes returns the instructions as the kernel reads them: an array of struct
// sock_filter. Its length divided by 8 goes into sock_fprog.len.
func (f *Filter) Bytes() []byte {
	return appendInstructions(make([]byte, 0, len(f.Instructions)*sockFilterSize), f.Instructions)
}

func appendInstructions(b []byte, program []SockFilter) []byte {
	for _, i := range program {
		b = binary.NativeEndian.AppendUint16(b, i.Code)
		b = append(b, i.JT, i.JF)
		b = binary.NativeEndian.AppendUint32(b, i.K)
	}
	return b
}

// The instruction codes the compiler uses (linux/bpf_common.h). Of these, the
// kernel can evaluate all but loads of arguments ahead of time.
const (
	opLoad = 0x20 // BPF_LD|BPF_W|BPF_ABS: A = word k of seccomp_data
	opAnd  = 0x54 // BPF_ALU|BPF_AND|BPF_K
	opJump = 0x05 // BPF_JMP|BPF_JA
	opJEQ  = 0x15 // BPF_JMP|BPF_JEQ|BPF_K
	opJGE  = 0x35 // BPF_JMP|BPF_JGE|BPF_K
	opJSet = 0x45 // BPF_JMP|BPF_JSET|BPF_K
	opRet  = 0x06 // BPF_RET|BPF_K
)

// Offsets in struct seccomp_data on little-endian machines (linux/seccomp.h).
const (
	offsetNR   = 0
	offsetArch = 4
	offsetArgs = 16
)

// String writes the program one instruction a line, for people.
func (f *Filter) String() string {
	var b []byte
	for at, i := range f.Instructions {
		b = fmt.Appendf(b, "%4d  ", at)
		b = append(appendMnemonic(b, at, i), '\n')
	}
	return string(b)
}

func appendMnemonic(b []byte, at int, i SockFilter) []byte {
	branch := func(name string) []byte {
		return fmt.Appendf(b, "%-5s %#x, %d, %d", name, i.K, at+1+int(i.JT), at+1+int(i.JF))
	}
	switch i.Code {
	case opLoad:
		return append(append(b, "load  "...), fieldName(i.K)...)
	case opAnd:
		return fmt.Appendf(b, "and   %#x", i.K)
	case opJump:
		return fmt.Appendf(b, "jump  %d", at+1+int(i.K))
	case opJEQ:
		return branch("jeq")
	case opJGE:
		return branch("jge")
	case opJSet:
		return branch("jset")
	case opRet:
		return append(append(b, "ret   "...), verdict(i.K).String()...)
	}
	return fmt.Appendf(b, "?     code=%#x jt=%d jf=%d k=%#x", i.Code, i.JT, i.JF, i.K)
}

func fieldName(offset uint32) string {
	switch {
	case offset == offsetNR:
		return "nr"
	case offset == offsetArch:
		return "arch"
	case offset >= offsetArgs && offset%8 == 0:
		return fmt.Sprintf("arg%d.lo", (offset-offsetArgs)/8)
	case offset >= offsetArgs:
		return fmt.Sprintf("arg%d.hi", (offset-offsetArgs)/8)
	}
	return fmt.Sprintf("[%d]", offset)
}
