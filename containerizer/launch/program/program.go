package program

import "unsafe"

// Magic and Version begin every encoded program.
const (
	Magic   = 0x48545242 // "BRTH"
	Version = 1
)

// Limits of a program. They are far above what a container needs and keep a
// damaged one from exhausting the monitor.
const (
	MaxOps   = 1 << 14
	MaxSlots = 1 << 10
	MaxSize  = 8 << 20
)

// None in a slot field means that there is none.
const None = -1

// Header begins an encoded program. The loader fills in the fields below the
// line; they are zero in an encoded program.
type Header struct {
	Magic, Version uint32
	// Size of the whole block in bytes.
	Size uint32
	// Ops, Relocs and Slots are counts; Inputs is how many slots, beginning with
	// slot 1, are input descriptors.
	Ops, Relocs, Slots, Inputs uint32
	// CgroupSlot is the slot of the cgroup directory to be cloned into
	// (CLONE_INTO_CGROUP), or None.
	CgroupSlot int32
	// CloneFlags are the namespaces made by the first clone.
	CloneFlags uint64
	// UIDMap and GIDMap are what is written to the map files of the process once it
	// exists (user_namespaces(7)); the process waits for it at a read of slot 0.
	// With Staged they belong to the second process.
	UIDMap, GIDMap Span
	// Staged says that the first process makes a second one by OpSpawn, and exits.
	Staged uint32
	// Copy gives the process a copy of its parent's memory instead of sharing it. It
	// costs a millisecond or more, and only entering a time namespace needs it: the
	// kernel wants memory that nobody shares (setns(2)).
	Copy uint32
	// HasOOMScoreAdj says that the process is made with OOMScoreAdj (proc(5)).
	HasOOMScoreAdj uint32
	OOMScoreAdj    int32
	// Rlimits are limits that the parent sets before it lets the process go on after
	// the id maps: triples of 64-bit numbers, resource, soft and hard limit.
	Rlimits Span

	// Current is the index of the operation being executed; Failed is 1 + the index
	// of the operation that failed, Errno why.
	Current, Failed, Errno uint32
	// Noted is the last errno noted by FlagNote.
	Noted uint32
	// SpawnedPID is the pid of the second process, as its creator's parent sees it.
	SpawnedPID int32
	_          uint32
	// Stack is the address of the top of the second process's stack region, and
	// StackSize its size.
	Stack, StackSize uint64
	// SpawnArgs is room for struct clone_args.
	SpawnArgs [11]uint64
}

// Span is a piece of the data area.
type Span struct{ Offset, Length uint32 }

// Op is one operation: a system call, or a pseudo call from OpJump up.
type Op struct {
	NR uint32
	// Dst is the slot that takes the result, or None.
	Dst int16
	// Skip is how many operations are left out after a tolerated error, and how far
	// OpJump goes.
	Skip uint16
	// Tolerate are the errnos after which the program goes on (0 is none).
	Tolerate [4]uint8
	// Ptr has bit i set when Args[i] is an offset into the data area, Slot when it is
	// the number of a slot whose value is meant.
	Ptr, Slot uint8
	Flags     Flags
	Args      [6]uint64
}

// Flags of an operation.
type Flags uint16

const (
	// FlagAny tolerates every error.
	FlagAny Flags = 1 << iota
	// FlagFull fails with EPIPE when the result is not Args[2] (short reads and writes).
	FlagFull
	// FlagNote remembers EACCES for OpFail.
	FlagNote
)

// Pseudo calls.
const (
	// OpJump leaves out the next Skip operations.
	OpJump = 0x10000 + iota
	// OpStore writes the low 32 bits of Args[1] to the address Args[0].
	OpStore
	// OpSpawn clones a second process with the namespaces of Args[0], a sibling of the
	// first (CLONE_PARENT), that goes on with the next operation. The first exits. If
	// Args[1] is not 0, the second has a copy of the first's memory (see Header.Copy).
	OpSpawn
	// OpFail fails with the errno that was noted, else with Args[0].
	OpFail
	// OpExpect fails with the errno Args[2] unless the low 32 bits at the address
	// Args[0] equal Args[1].
	OpExpect
	// OpStoreWord writes Args[1] to the address Args[0].
	OpStoreWord
)

// Sizes of the parts of an encoded program.
const (
	HeaderSize = int(unsafe.Sizeof(Header{}))
	OpSize     = int(unsafe.Sizeof(Op{}))
)

// Layout says where the parts of a program lie, in bytes from its beginning.
type Layout struct{ Ops, Relocs, Slots, Data int }

// Layout returns the layout that follows from h's counts.
func (h *Header) Layout() Layout {
	var l Layout
	l.Ops = HeaderSize
	l.Relocs = l.Ops + int(h.Ops)*OpSize
	l.Slots = align8(l.Relocs + int(h.Relocs)*4)
	l.Data = l.Slots + int(h.Slots)*8
	return l
}

func align8(n int) int { return (n + 7) &^ 7 }
