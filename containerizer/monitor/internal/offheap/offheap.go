package offheap

import (
	"syscall"
	"unsafe"
)

// Alloc returns size zero bytes, or nil when the kernel refuses. Pages are
// counted from their first use on. No pointer into the Go heap may be kept there.
func Alloc(size int) []byte {
	const flags = syscall.MAP_PRIVATE | syscall.MAP_ANON | syscall.MAP_NORESERVE
	p, _, e := syscall.RawSyscall6(syscall.SYS_MMAP, 0, uintptr(size), syscall.PROT_READ|syscall.PROT_WRITE, flags, ^uintptr(0), 0)
	if e != 0 {
		return nil
	}
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&p))), size)
}

// Free returns memory of Alloc, all of it; nil is allowed.
func Free(b []byte) {
	if cap(b) > 0 {
		_, _, _ = syscall.RawSyscall(syscall.SYS_MUNMAP, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(cap(b)), 0) // cannot fail for what was mapped
	}
}

// Discard gives the pages of b back; b stays usable and reads as zero.
func Discard(b []byte) {
	if cap(b) > 0 {
		_, _, _ = syscall.RawSyscall(syscall.SYS_MADVISE, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(cap(b)), syscall.MADV_DONTNEED) // likewise
	}
}
