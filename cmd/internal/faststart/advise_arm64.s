#include "textflag.h"

// func advise(addr, size uintptr, advice int)
TEXT ·advise(SB), NOSPLIT, $0-24
	MOVD	addr+0(FP), R0
	MOVD	size+8(FP), R1
	MOVD	advice+16(FP), R2
	MOVD	$233, R8	// SYS_madvise
	SVC
	RET
