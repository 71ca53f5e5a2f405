#include "textflag.h"

// func advise(addr, size uintptr, advice int)
TEXT ·advise(SB), NOSPLIT, $0-24
	MOVQ	addr+0(FP), DI
	MOVQ	size+8(FP), SI
	MOVQ	advice+16(FP), DX
	MOVL	$28, AX	// SYS_madvise
	SYSCALL
	RET
