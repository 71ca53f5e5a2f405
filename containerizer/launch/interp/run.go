package interp

import (
	"syscall"
	"unsafe"

	"github.com/berth-dev/berth/containerizer/launch/program"
)

// cloneArgs is struct clone_args of linux/sched.h, version 2 (kernel 5.7).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal uint64
	stack, stackSize, tls                         uint64
	setTID, setTIDSize, cgroup                    uint64
}

const (
	cloneVM           = 0x100
	cloneParent       = 0x8000
	clonePidfd        = 0x1000
	cloneParentSetTID = 0x100000
	cloneClearSighand = 0x1_0000_0000
	cloneIntoCgroup   = 0x2_0000_0000
)

// rawClone is clone3(2); the child calls run(h, pc) on its own stack.
//
//go:noescape
func rawClone(args *cloneArgs, size uintptr, h *program.Header, pc, run uintptr) (pid, errno uintptr)

// runPC is the address of run's code: the first word of a function value.
//
//go:nosplit
//go:norace
//go:nocheckptr
func runPC() uintptr {
	f := run
	return **(**uintptr)(unsafe.Pointer(&f))
}

// run executes the program from operation pc on and does not return. It runs in
// the child: see the package comment for what it may not do.
//
//go:nosplit
//go:norace
//go:nocheckptr
//nolint:gocognit // one function on purpose: each call deepens a stack that cannot grow
func run(h *program.Header, pc uintptr) {
	const headerSize, opSize = unsafe.Sizeof(program.Header{}), unsafe.Sizeof(program.Op{})
	ops := unsafe.Add(unsafe.Pointer(h), headerSize)
	slots := unsafe.Add(ops, (uintptr(h.Ops)*opSize+uintptr(h.Relocs)*4+7)&^7)
	if pc == 0 {
		closeOthers(h)
	}
	for ; pc < uintptr(h.Ops); pc++ {
		h.Current = uint32(pc)
		o := (*program.Op)(unsafe.Add(ops, pc*opSize))
		a0, a1, a2 := arg(o, 0, slots), arg(o, 1, slots), arg(o, 2, slots)
		var r, e uintptr
		switch o.NR {
		case program.OpJump:
			pc += uintptr(o.Skip)
			continue
		case program.OpStore:
			*word(&a0) = uint32(a1)
		case program.OpStoreWord:
			*(*uintptr)(unsafe.Pointer(word(&a0))) = a1
		case program.OpExpect:
			if *word(&a0) != uint32(a1) {
				e = a2
			}
		case program.OpFail:
			if e = uintptr(h.Noted); e == 0 {
				e = a0
			}
		case program.OpSpawn:
			e = spawn(h, a0, a1, pc+1)
		default:
			var errno syscall.Errno
			r, _, errno = syscall.RawSyscall6(uintptr(o.NR), a0, a1, a2, arg(o, 3, slots), arg(o, 4, slots), arg(o, 5, slots))
			e = uintptr(errno)
			if e == 0 && o.Flags&program.FlagFull != 0 && r != a2 {
				e = uintptr(syscall.EPIPE)
			}
		}
		if e != 0 {
			if o.Flags&program.FlagNote != 0 && e == uintptr(syscall.EACCES) {
				h.Noted = uint32(e)
			}
			if o.Flags&program.FlagAny == 0 && !tolerated(o, e) {
				h.Errno = uint32(e)
				h.Failed = uint32(pc) + 1
				break
			}
			pc += uintptr(o.Skip)
			continue
		}
		if o.Dst != program.None {
			*(*uint64)(unsafe.Add(slots, uintptr(o.Dst)*8)) = uint64(r)
		}
	}
	for {
		_, _, _ = syscall.RawSyscall6(syscall.SYS_EXIT_GROUP, 125, 0, 0, 0, 0, 0)
	}
}

// arg is argument i of o, with a slot's value in place of its number.
//
//go:nosplit
//go:norace
//go:nocheckptr
func arg(o *program.Op, i uintptr, slots unsafe.Pointer) uintptr {
	v := *(*uint64)(unsafe.Add(unsafe.Pointer(&o.Args), i*8))
	if o.Slot>>i&1 == 1 {
		v = *(*uint64)(unsafe.Add(slots, uintptr(v)*8))
	}
	return uintptr(v)
}

// word is the 32-bit word at the address that *p holds.
//
//go:nosplit
//go:norace
//go:nocheckptr
func word(p *uintptr) *uint32 { return *(**uint32)(unsafe.Pointer(p)) }

//go:nosplit
//go:norace
//go:nocheckptr
func tolerated(o *program.Op, e uintptr) bool {
	t := *(*uint32)(unsafe.Pointer(&o.Tolerate))
	for ; t != 0; t >>= 8 {
		if uintptr(t&0xff) == e {
			return true
		}
	}
	return false
}

// spawn makes the second process of a staged program, which goes on at pc. In the
// first it returns on error only.
//
//go:nosplit
//go:norace
//go:nocheckptr
func spawn(h *program.Header, flags, alone, pc uintptr) uintptr {
	args := (*cloneArgs)(unsafe.Pointer(&h.SpawnArgs))
	args.flags = uint64(flags) | cloneParent | cloneParentSetTID
	if alone == 0 {
		args.flags |= cloneVM
	}
	args.parentTID = uint64(uintptr(unsafe.Pointer(&h.SpawnedPID)))
	args.stack = h.Stack
	args.stackSize = h.StackSize
	_, errno := rawClone(args, unsafe.Sizeof(*args), h, pc, runPC())
	if errno != 0 {
		return errno
	}
	for {
		_, _, _ = syscall.RawSyscall6(syscall.SYS_EXIT_GROUP, 0, 0, 0, 0, 0, 0)
	}
}
