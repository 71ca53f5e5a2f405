#include "textflag.h"

// func codeAddress() unsafe.Pointer
TEXT ·codeAddress(SB), NOSPLIT, $0-8
	LEAQ	·code(SB), AX
	MOVQ	AX, ret+0(FP)
	RET

// code is the program of the package comment. It runs as a process of its own,
// without the Go runtime: R12 points to argc, R13 is the command's pid, 0(SP) is the
// set of all signals, 8(SP) the empty set, 16(SP) a word.
TEXT ·code(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ	SP, R12
	SUBQ	$64, SP
	MOVQ	$-1, 0(SP)
	MOVQ	$0, 8(SP)
	XORL	R13, R13
	MOVL	$14, AX		// rt_sigprocmask(SIG_SETMASK, all)
	MOVL	$2, DI
	MOVQ	SP, SI
	XORL	DX, DX
	MOVL	$8, R10
	SYSCALL
	CMPQ	0(R12), $1
	JLE	loop
	MOVL	$56, AX		// clone(SIGCHLD)
	MOVL	$17, DI
	XORL	SI, SI
	XORL	DX, DX
	XORL	R10, R10
	XORL	R8, R8
	SYSCALL
	TESTQ	AX, AX
	JEQ	command
	JLT	nofork
	MOVQ	AX, R13
loop:
	MOVL	$128, AX	// rt_sigtimedwait(all)
	MOVQ	SP, DI
	XORL	SI, SI
	XORL	DX, DX
	MOVL	$8, R10
	SYSCALL
	CMPQ	AX, $17		// SIGCHLD
	JEQ	reap
	TESTQ	AX, AX
	JLE	loop
	TESTQ	R13, R13
	JEQ	nocommand
	MOVQ	AX, SI
	MOVQ	R13, DI
	MOVL	$62, AX		// kill(command, signal)
	SYSCALL
	JMP	loop
nocommand:
	XORL	DI, DI
	CMPQ	AX, $15		// SIGTERM
	JEQ	exit
	CMPQ	AX, $2		// SIGINT
	JEQ	exit
	JMP	loop
reap:
	MOVL	$61, AX		// wait4(-1, &status, WNOHANG)
	MOVQ	$-1, DI
	LEAQ	16(SP), SI
	MOVL	$1, DX
	XORL	R10, R10
	SYSCALL
	TESTQ	AX, AX
	JLE	loop
	CMPQ	AX, R13
	JNE	reap
	MOVL	16(SP), AX
	MOVL	AX, DI
	ANDL	$0x7f, DI
	JNE	signalled
	SHRL	$8, AX
	ANDL	$0xff, AX
	MOVL	AX, DI
	JMP	exit
signalled:
	ADDL	$128, DI
exit:
	MOVL	$231, AX	// exit_group
	SYSCALL
nofork:
	MOVL	$125, DI
	JMP	exit
command:
	MOVL	$109, AX	// setpgid(0, 0)
	XORL	DI, DI
	XORL	SI, SI
	SYSCALL
	MOVL	$39, AX		// getpid
	SYSCALL
	MOVQ	AX, 16(SP)
	MOVL	$16, AX		// ioctl(0, TIOCSPGRP, &pid): no terminal, no harm
	XORL	DI, DI
	MOVL	$0x5410, SI
	LEAQ	16(SP), DX
	SYSCALL
	MOVL	$14, AX		// rt_sigprocmask(SIG_SETMASK, none)
	MOVL	$2, DI
	LEAQ	8(SP), SI
	XORL	DX, DX
	MOVL	$8, R10
	SYSCALL
	MOVL	$59, AX		// execve(argv[1], &argv[2], envp)
	MOVQ	16(R12), DI
	LEAQ	24(R12), SI
	MOVQ	0(R12), DX
	LEAQ	16(R12)(DX*8), DX
	SYSCALL
	MOVL	$127, DI
	CMPQ	AX, $-2		// ENOENT
	JEQ	exit
	CMPQ	AX, $-20	// ENOTDIR
	JEQ	exit
	MOVL	$126, DI
	JMP	exit
	BYTE $'b'; BYTE $'e'; BYTE $'r'; BYTE $'t'; BYTE $'h'; BYTE $'-'; BYTE $'i'; BYTE $'n'
	BYTE $'i'; BYTE $'t'; BYTE $' '; BYTE $'e'; BYTE $'n'; BYTE $'d'; BYTE $'s'; BYTE $'.'
