package cgroup

import "slices"

// A small assembler for one kind of program: the device filter of version 2.
// decisions/0001 says why there is no library for it.

// instruction is one eBPF instruction (Documentation/bpf/standardization).
type instruction struct {
	op  uint8
	reg uint8 // destination in the low half, source in the high
	off int16
	imm int32
}

const (
	opMovImm = 0xb7 // dst = imm, 64 bits
	opMovReg = 0xbf
	opAndImm = 0x57
	opRshImm = 0x77
	opLoad32 = 0x61 // dst = *(u32 *)(src + off)
	opJneImm = 0x55
	opJeqImm = 0x15
	opExit   = 0x95
)

// Registers: the kernel passes struct bpf_cgroup_dev_ctx in r1.
const (
	regResult = iota // 0 denies
	regContext
	regNeeded // what is asked for and not allowed yet
	regKind   // BPF_DEVCG_DEV_*
	regMajor
	regMinor
	regScratch
)

const (
	bpfBlock = 1 // BPF_DEVCG_DEV_BLOCK
	bpfChar  = 2 // BPF_DEVCG_DEV_CHAR
)

// deviceProgram compiles rules, later ones overriding earlier ones, on top of
// denying everything. The last rule is tried first: what it denies is denied,
// what it allows need not be allowed by another.
func deviceProgram(rules []deviceRule) []instruction {
	p := []instruction{
		{op: opLoad32, reg: regNeeded | regContext<<4, off: 0}, // access_type: access << 16 | type
		{op: opMovReg, reg: regKind | regNeeded<<4},
		{op: opAndImm, reg: regKind, imm: 0xffff},
		{op: opRshImm, reg: regNeeded, imm: 16},
		{op: opLoad32, reg: regMajor | regContext<<4, off: 4},
		{op: opLoad32, reg: regMinor | regContext<<4, off: 8},
	}
	for _, r := range slices.Backward(rules) {
		p = append(p, ruleProgram(r)...)
		if r.everything() {
			return p // nothing comes after it; the verifier refuses dead code
		}
	}
	return append(p, verdict(deny)...)
}

// What the program returns.
const deny, allow = 0, 1

func verdict(result int32) []instruction {
	return []instruction{{op: opMovImm, reg: regResult, imm: result}, {op: opExit}}
}

// ruleProgram is the part for one rule. Jumps that leave it are patched in the
// end, when its length is known.
func ruleProgram(r deviceRule) []instruction {
	var p []instruction
	switch r.kind {
	case 'b':
		p = append(p, instruction{op: opJneImm, reg: regKind, imm: bpfBlock, off: leave})
	case 'c':
		p = append(p, instruction{op: opJneImm, reg: regKind, imm: bpfChar, off: leave})
	}
	if r.major != anyNumber {
		p = append(p, instruction{op: opJneImm, reg: regMajor, imm: int32(r.major), off: leave})
	}
	if r.minor != anyNumber {
		p = append(p, instruction{op: opJneImm, reg: regMinor, imm: int32(r.minor), off: leave})
	}
	switch {
	case r.access == accessAll:
	case r.allow:
		p = append(p,
			instruction{op: opAndImm, reg: regNeeded, imm: int32(accessAll &^ r.access)},
			instruction{op: opJneImm, reg: regNeeded, imm: 0, off: leave})
	default:
		p = append(p,
			instruction{op: opMovReg, reg: regScratch | regNeeded<<4},
			instruction{op: opAndImm, reg: regScratch, imm: int32(r.access)},
			instruction{op: opJeqImm, reg: regScratch, imm: 0, off: leave})
	}
	result := int32(deny)
	if r.allow {
		result = allow
	}
	p = append(p, verdict(result)...)
	for n := range p {
		if p[n].off == leave {
			p[n].off = int16(len(p) - n - 1)
		}
	}
	return p
}

// leave marks a jump to the end of a rule; no real offset is negative.
const leave = -1
