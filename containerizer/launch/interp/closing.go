package interp

import (
	"slices"
	"syscall"
	"unsafe"

	"github.com/berth-dev/berth/containerizer/launch/program"
)

// A program may wait for long, at the barrier or held. It must not keep what the
// parent has open meanwhile: the parent's end of the progress socket, so that it
// sees the parent's death; connections, pipes and sockets whose ends others wait
// for. So the child begins with closing everything but its inputs, in the ranges
// that the parent has worked out at the far end of the child's stack: their number,
// then the first and last descriptor of each.

const sysCloseRange = 436

// planClosing leaves the ranges between 2, the descriptors of fds and the child's
// end of the progress socket.
func (im *Image) planClosing(socket int, fds []int) {
	// The far end of the second stack is free, too, to sort in.
	kept := unsafe.Slice((*uint32)(unsafe.Pointer(&im.stacks[stackSize])), len(fds)+1)
	kept[0] = uint32(socket)
	n := 1
	for _, fd := range fds {
		if fd > 2 {
			kept[n] = uint32(fd)
			n++
		}
	}
	kept = kept[:n]
	slices.Sort(kept)
	ranges := unsafe.Slice((*uint32)(unsafe.Pointer(&im.stacks[0])), 2*n+3)
	count, first := uint32(0), uint32(3)
	add := func(last uint32) {
		ranges[1+2*count], ranges[2+2*count] = first, last
		count++
	}
	for _, fd := range kept {
		if fd > first {
			add(fd - 1)
		}
		first = max(first, fd+1)
	}
	add(^uint32(0))
	ranges[0] = count
}

// closeOthers closes what planClosing has found. It runs in the child.
//
//go:nosplit
//go:norace
//go:nocheckptr
func closeOthers(h *program.Header) {
	p := uintptr(h.Stack - h.StackSize)
	n := *word(&p)
	for ; n > 0; n-- {
		p += 4
		first := *word(&p)
		p += 4
		_, _, _ = syscall.RawSyscall6(sysCloseRange, uintptr(first), uintptr(*word(&p)), 0, 0, 0, 0) // cannot fail on a range
	}
}
