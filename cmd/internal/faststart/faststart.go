package faststart

import (
	"runtime"
	"unsafe"
)

const (
	// chunkSize is what the heap of the Go runtime grows by, aligned (pallocChunkBytes
	// of runtime/mpagealloc.go). It begins somewhere in the first chunk (Go 1.26).
	chunkSize = 4 << 20
	// hugePageSize is that of amd64, and of arm64 with pages of 4 KiB. Elsewhere the
	// kernel finds no whole huge page and does nothing.
	hugePageSize = 2 << 20
	// stackSize is more than the main goroutine needs as a rule.
	stackSize = 48 << 10
)

// Advice of madvise(2). None can fail in a way that matters.
const (
	advHugePage      = 14
	advPopulateRead  = 22 // Linux 5.14
	advPopulateWrite = 23
	advCollapse      = 25 // Linux 6.1
)

// Packages are initialized once those they import are, so this one is among the
// first.
var _ = begin()

// begin returns how many Ps there were.
func begin() int {
	ps := runtime.GOMAXPROCS(1) // a command mostly waits
	enlargePages()
	for _, s := range segments(getAuxv()) {
		advise(s.start, s.size, advPopulateRead)
	}
	growStack()
	return ps
}

// advise is madvise(2). Package syscall would have to be initialized before, and
// with it what it imports.
//
//go:noescape
func advise(addr, size uintptr, advice int)

// enlargePages gives what the heap will use huge pages.
func enlargePages() {
	used, end := allocate(small), allocate(large)
	chunk := end &^ (chunkSize - 1)
	advise(chunk, chunkSize, advHugePage)
	advise(used&^(hugePageSize-1), hugePageSize, advCollapse)
	if room := chunk + chunkSize - end; room < hugePageSize {
		// The heap would soon go on in a chunk that does not exist, and cannot be advised.
		// What takes the rest of this one makes the next; it is never touched.
		_ = allocate(room)
		advise(chunk+chunkSize, chunkSize, advHugePage)
		return
	}
	// Its second half now: while the process lends "no huge pages" to a child, the first
	// touch would settle it for small ones.
	advise(chunk+hugePageSize, 1, advPopulateWrite)
}

// Sizes of which the Go runtime puts one beside what is there already, and gives the
// other, at the start, the lowest memory that is not in use.
const small, large = 64, 64 << 10

// allocate returns the address of n bytes of the heap that nobody uses.
//
//go:noinline
func allocate(n uintptr) uintptr {
	b := make([]byte, n) // of a size that the compiler does not know, so not on the stack
	return uintptr(unsafe.Pointer(&b[0]))
}

// growStack makes the stack of the main goroutine as large as it will be. Growing by
// and by copies ever more frames, and looks up each in tables.
//
//go:noinline
func growStack() {
	var room [stackSize]byte
	touch(&room)
}

//go:noinline
func touch(*[stackSize]byte) {}
