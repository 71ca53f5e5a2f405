package faststart

import "unsafe"

// getAuxv returns what the kernel told the program about itself, keys and values in
// turn (getauxval(3)). The runtime keeps it for packages outside, which name it like
// this (go.dev/issue/57336); to read /proc/self/auxv takes half a millisecond.
//
//go:linkname getAuxv runtime.getAuxv
func getAuxv() []uintptr

// Keys of the auxiliary vector.
const (
	atPHDR   = 3
	atPHNum  = 5
	atPageSz = 6
)

// segment is a part of the program's file in memory, in whole pages.
type segment struct{ start, size uintptr }

// programHeader is Elf64_Phdr of elf(5).
type programHeader struct {
	kind, flags                                         uint32
	offset, vaddr, paddr, fileSize, memorySize, aligned uint64
}

const (
	ptLoad = 1
	ptPHDR = 6
	pfW    = 2
)

// segments are code and constants. Data is left alone: its pages would be copied.
func segments(auxv []uintptr) (list []segment) {
	var at, count, page uintptr
	for i := 0; i+1 < len(auxv); i += 2 {
		switch auxv[i] {
		case atPHDR:
			at = auxv[i+1]
		case atPHNum:
			count = auxv[i+1]
		case atPageSz:
			page = auxv[i+1]
		}
	}
	if at == 0 || page == 0 {
		return nil
	}
	moved, known := uintptr(0), false
	for i := range count {
		h := *(**programHeader)(unsafe.Pointer(&at)) // in memory like the rest of the file
		h = (*programHeader)(unsafe.Add(unsafe.Pointer(h), i*unsafe.Sizeof(*h)))
		switch {
		case h.kind == ptPHDR: // comes before those to load
			moved, known = at-uintptr(h.vaddr), true
		case h.kind == ptLoad && h.flags&pfW == 0 && known:
			start := (moved + uintptr(h.vaddr)) &^ (page - 1)
			end := moved + uintptr(h.vaddr+h.memorySize)
			list = append(list, segment{start, (end - start + page - 1) &^ (page - 1)})
		}
	}
	return list
}
