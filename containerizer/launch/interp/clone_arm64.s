#include "textflag.h"

// func rawClone(args *cloneArgs, size uintptr, h *program.Header, pc, run uintptr) (pid, errno uintptr)
//
// The child starts with an empty stack at args.stack + args.stack_size and never
// returns: it calls run(h, pc). run is the address of an ABIInternal function
// (cmd/compile/abi-internal.md: arguments in R0 and R1, g in R28): its ABI0
// wrapper would call the race detector. R28 is the caller's g, untouched.
TEXT ·rawClone(SB), NOSPLIT, $0-56
	MOVD	args+0(FP), R0
	MOVD	size+8(FP), R1
	MOVD	h+16(FP), R19
	MOVD	pc+24(FP), R20
	MOVD	run+32(FP), R21
	MOVD	$435, R8	// SYS_clone3
	SVC
	CBZ	R0, child
	CMN	$4095, R0
	BCC	ok
	NEG	R0, R0
	MOVD	$-1, R1
	MOVD	R1, pid+40(FP)
	MOVD	R0, errno+48(FP)
	RET
ok:
	MOVD	R0, pid+40(FP)
	MOVD	ZR, errno+48(FP)
	RET
child:
	MOVD	ZR, R29
	SUB	$48, RSP	// spill space of the arguments
	MOVD	R19, R0
	MOVD	R20, R1
	CALL	(R21)
	BRK	$1
