package apply

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_AARCH64

var allowedArch = []uint32{unix.SYS_FSTATAT}
