package program

import (
	"strings"
	"syscall"
	"unsafe"
)

// Slot names a place for a descriptor or another result.
type Slot int

// Data names a place in the data area.
type Data uint64

// Builder puts a program together. The zero value is ready for use.
type Builder struct {
	header Header
	ops    []Op
	relocs []uint32
	data   []byte
	slots  int
	inputs int
	limits []any
	text   map[string]Data
	cut    bool // a text has a NUL before its end
}

// usualOps is room for the calls of a launch. What is not used is not touched, and a
// list that grows is copied, to pages that cost more than what is written there.
const usualOps = 384

// Progress is slot 0, the child's end of the progress socket.
const Progress Slot = 0

// Input adds an input descriptor. All inputs come before the first NewSlot.
func (b *Builder) Input() Slot {
	if b.slots != b.inputs {
		panic("program: input after a slot")
	}
	b.inputs++
	b.slots++
	return Slot(b.inputs)
}

// NewSlot adds a place for a result.
func (b *Builder) NewSlot() Slot {
	b.slots++
	return Slot(b.slots)
}

// Len is the number of operations so far, which is the index of the next.
func (b *Builder) Len() int { return len(b.ops) }

// Bytes adds data, aligned to 8 bytes.
func (b *Builder) Bytes(p []byte) Data {
	for len(b.data)%8 != 0 {
		b.data = append(b.data, 0)
	}
	at := Data(len(b.data))
	b.data = append(b.data, p...)
	if len(p) == 0 {
		b.data = append(b.data, 0) // so that the address lies inside
	}
	return at
}

// Zeros adds n bytes of room.
func (b *Builder) Zeros(n int) Data { return b.Bytes(make([]byte, n)) }

// Text adds a string with its terminating NUL, once for equal strings.
func (b *Builder) Text(s string) Data {
	if at, ok := b.text[s]; ok {
		return at
	}
	if b.text == nil {
		b.text = map[string]Data{}
	}
	b.cut = b.cut || strings.IndexByte(s, 0) >= 0
	at := Data(len(b.data))
	b.data = append(b.data, s...)
	b.data = append(b.data, 0)
	b.text[s] = at
	return at
}

// Words adds 64-bit words; those that are of type Data become addresses.
func (b *Builder) Words(words ...any) Data {
	at := b.Zeros(8 * len(words))
	for i, w := range words {
		var v uint64
		switch w := w.(type) {
		case Data:
			v = uint64(w)
			b.relocs = append(b.relocs, uint32(at)+uint32(8*i))
		case uint64:
			v = w
		case int:
			v = uint64(w)
		default:
			panic("program: a word is a Data, uint64 or int")
		}
		*(*uint64)(unsafe.Pointer(&b.data[int(at)+8*i])) = v
	}
	return at
}

// Strings adds a NULL-terminated array of pointers to strings (argv, envp).
func (b *Builder) Strings(list []string) Data {
	words := make([]any, 0, len(list)+1)
	for _, s := range list {
		words = append(words, b.Text(s))
	}
	return b.Words(append(words, 0)...)
}

// Call adds a system call. An argument is an int or uint64, a Slot (its value is
// meant) or a Data (its address).
func (b *Builder) Call(nr int, args ...any) *Op {
	o := Op{NR: uint32(nr), Dst: None}
	if len(args) > 6 {
		panic("program: more than six arguments")
	}
	for i, a := range args {
		switch a := a.(type) {
		case int:
			o.Args[i] = uint64(a)
		case uint64:
			o.Args[i] = a
		case Slot:
			o.Args[i] = uint64(a)
			o.Slot |= 1 << i
		case Data:
			o.Args[i] = uint64(a)
			o.Ptr |= 1 << i
		default:
			panic("program: an argument is an int, uint64, Slot or Data")
		}
	}
	if b.ops == nil {
		b.ops = make([]Op, 0, usualOps)
	}
	b.ops = append(b.ops, o)
	return &b.ops[len(b.ops)-1]
}

// To sends the result to a slot. It returns o.
func (o *Op) To(s Slot) *Op {
	o.Dst = int16(s)
	return o
}

// Accept lets the program go on after these errors, leaving out the next skip
// operations. It returns o.
func (o *Op) Accept(skip int, errnos ...syscall.Errno) *Op {
	o.Skip = uint16(skip)
	if len(errnos) > len(o.Tolerate) {
		panic("program: too many tolerated errors")
	}
	for i, e := range errnos {
		o.Tolerate[i] = uint8(e)
	}
	return o
}

// With sets flags. It returns o.
func (o *Op) With(f Flags) *Op {
	o.Flags |= f
	return o
}

// Branch is an operation whose Skip is not known yet.
type Branch struct{ at int }

// Branch remembers the last operation, so that its skip can be set by Land.
func (b *Builder) Branch() Branch { return Branch{len(b.ops) - 1} }

// Jump adds a jump to where it will Land.
func (b *Builder) Jump() Branch {
	b.Call(OpJump)
	return b.Branch()
}

// Land makes the branch go to the next operation that is added.
func (b *Builder) Land(br Branch) { b.ops[br.at].Skip = uint16(len(b.ops) - br.at - 1) }

// Clone sets the namespaces of the first clone, and the cgroup directory to be
// cloned into (None for none).
func (b *Builder) Clone(flags uint64, cgroup Slot) {
	b.header.CloneFlags = flags
	b.header.CgroupSlot = int32(cgroup)
}

// Staged says that the program uses OpSpawn.
func (b *Builder) Staged() { b.header.Staged = 1 }

// CopyMemory gives the process a copy of its parent's memory.
func (b *Builder) CopyMemory() { b.header.Copy = 1 }

// IDMaps sets the id maps of the process's user namespace.
func (b *Builder) IDMaps(uids, gids string) {
	b.header.UIDMap = Span{uint32(b.Text(uids)), uint32(len(uids))}
	b.header.GIDMap = Span{uint32(b.Text(gids)), uint32(len(gids))}
}

// OOMScoreAdj sets the OOM score adjustment that the process is made with.
func (b *Builder) OOMScoreAdj(score int) {
	b.header.HasOOMScoreAdj, b.header.OOMScoreAdj = 1, int32(score)
}

// Rlimit adds a limit that the parent sets, together with the id maps.
func (b *Builder) Rlimit(resource int, soft, hard uint64) {
	b.limits = append(b.limits, resource, soft, hard)
}

// Encode returns the program. The builder must not be used afterwards.
func (b *Builder) Encode() ([]byte, error) {
	if b.cut {
		return nil, CheckError("a path, an argument or an environment variable holds a NUL byte")
	}
	h := b.header
	if len(b.limits) > 0 {
		h.Rlimits = Span{uint32(b.Words(b.limits...)), uint32(8 * len(b.limits))}
	}
	h.Magic, h.Version = Magic, Version
	h.Ops, h.Relocs = uint32(len(b.ops)), uint32(len(b.relocs))
	h.Slots, h.Inputs = uint32(b.slots+1), uint32(b.inputs)
	if h.CgroupSlot == 0 {
		h.CgroupSlot = None
	}
	l := h.Layout()
	size := align8(l.Data + len(b.data))
	if size > MaxSize {
		return nil, CheckError("larger than 8 MiB: the arguments and environment are too long")
	}
	h.Size = uint32(size)
	words := make([]uint64, size/8) // aligned
	block := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), size)
	*(*Header)(unsafe.Pointer(&block[0])) = h
	for i := range b.ops {
		*(*Op)(unsafe.Pointer(&block[l.Ops+i*OpSize])) = b.ops[i]
	}
	for i, r := range b.relocs {
		*(*uint32)(unsafe.Pointer(&block[l.Relocs+i*4])) = r
	}
	copy(block[l.Data:], b.data)
	return block, Check(block)
}
