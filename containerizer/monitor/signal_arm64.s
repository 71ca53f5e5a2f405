#include "textflag.h"

// func signalHandlers() (handler, restorer uintptr)
TEXT ·signalHandlers(SB), NOSPLIT, $0-16
	MOVD	$onSignal<>(SB), R0
	MOVD	R0, handler+0(FP)
	MOVD	$fromSignal<>(SB), R0
	MOVD	R0, restorer+8(FP)
	RET

// onSignal(signal, info, context) adds one to the wake event. The kernel restores
// every register at the end.
TEXT onSignal<>(SB), NOSPLIT|NOFRAME, $0
	MOVW	·wakeFD(SB), R0
	MOVD	$·wakeOne(SB), R1
	MOVD	$8, R2
	MOVD	$64, R8	// SYS_write
	SVC
	RET

TEXT fromSignal<>(SB), NOSPLIT|NOFRAME, $0
	MOVD	$139, R8	// SYS_rt_sigreturn
	SVC
	BRK
