package apply

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_AARCH64

func allowedHere() []uint32 { return []uint32{unix.SYS_FSTATAT} }
