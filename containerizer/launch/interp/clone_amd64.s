#include "textflag.h"

// func rawClone(args *cloneArgs, size uintptr, h *program.Header, pc, run uintptr) (pid, errno uintptr)
//
// The child starts with an empty stack at args.stack + args.stack_size and never
// returns: it calls run(h, pc). run is the address of an ABIInternal function
// (cmd/compile/abi-internal.md: arguments in AX and BX, g in R14, X15 zero): its
// ABI0 wrapper would call the race detector. R14 is the caller's g, untouched.
TEXT ·rawClone(SB), NOSPLIT, $0-56
	MOVQ	args+0(FP), DI
	MOVQ	size+8(FP), SI
	MOVQ	h+16(FP), R12
	MOVQ	pc+24(FP), BX
	MOVQ	run+32(FP), R13
	MOVL	$435, AX	// SYS_clone3
	SYSCALL
	TESTQ	AX, AX
	JEQ	child
	CMPQ	AX, $0xfffffffffffff001
	JCC	fail
	MOVQ	AX, pid+40(FP)
	MOVQ	$0, errno+48(FP)
	RET
fail:
	NEGQ	AX
	MOVQ	$-1, pid+40(FP)
	MOVQ	AX, errno+48(FP)
	RET
child:
	XORL	BP, BP
	SUBQ	$32, SP	// spill space of the arguments
	MOVQ	R12, AX
	XORPS	X15, X15
	CALL	R13
	INT	$3
