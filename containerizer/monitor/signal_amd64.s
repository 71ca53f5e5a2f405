#include "textflag.h"

// func signalHandlers() (handler, restorer uintptr)
TEXT ·signalHandlers(SB), NOSPLIT, $0-16
	MOVQ	$onSignal<>(SB), AX
	MOVQ	AX, handler+0(FP)
	MOVQ	$fromSignal<>(SB), AX
	MOVQ	AX, restorer+8(FP)
	RET

// onSignal(signal, info, context) adds one to the wake event. The kernel restores
// every register at the end.
TEXT onSignal<>(SB), NOSPLIT|NOFRAME, $0
	MOVL	·wakeFD(SB), DI
	LEAQ	·wakeOne(SB), SI
	MOVL	$8, DX
	MOVL	$1, AX	// SYS_write
	SYSCALL
	RET

TEXT fromSignal<>(SB), NOSPLIT|NOFRAME, $0
	MOVL	$15, AX	// SYS_rt_sigreturn
	SYSCALL
	INT	$3
