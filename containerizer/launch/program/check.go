package program

import (
	"syscall"
	"unsafe"
)

// CheckError says what is wrong with an encoded program.
type CheckError string

func (e CheckError) Error() string { return "launch program: " + string(e) }

// Check tells whether block is a whole and sound program. The block must be
// aligned to 8 bytes.
func Check(block []byte) error {
	if len(block) < HeaderSize || len(block) > MaxSize {
		return CheckError("size out of range")
	}
	h := (*Header)(unsafe.Pointer(&block[0]))
	if err := h.check(len(block)); err != nil {
		return err
	}
	l := h.Layout()
	c := checker{h: h, data: uint64(len(block) - l.Data)}
	for i := range int(h.Ops) {
		if err := c.op(i, (*Op)(unsafe.Pointer(&block[l.Ops+i*OpSize]))); err != nil {
			return err
		}
	}
	for i := range int(h.Relocs) {
		at := *(*uint32)(unsafe.Pointer(&block[l.Relocs+i*4]))
		if at%8 != 0 || !c.inside(uint64(at), 8) {
			return CheckError("relocation outside the data")
		}
		if !c.inside(*(*uint64)(unsafe.Pointer(&block[l.Data+int(at)])), 1) {
			return CheckError("relocated offset outside the data")
		}
	}
	return c.spans()
}

// check looks at the header alone, of a block of size bytes.
func (h *Header) check(size int) error {
	switch {
	case h.Magic != Magic || h.Version != Version:
		return CheckError("not a program of this version")
	case int(h.Size) != size:
		return CheckError("size differs from the header's")
	case h.Ops == 0 || h.Ops > MaxOps || h.Slots == 0 || h.Slots > MaxSlots || h.Relocs > MaxSize/4:
		return CheckError("count out of range")
	case h.Inputs >= h.Slots:
		return CheckError("more inputs than slots")
	case h.CgroupSlot != None && (h.CgroupSlot < 1 || uint32(h.CgroupSlot) > h.Inputs):
		return CheckError("cgroup is not an input")
	case h.Layout().Data > size:
		return CheckError("parts are longer than the block")
	}
	return nil
}

type checker struct {
	h    *Header
	data uint64 // length of the data area
}

func (c *checker) inside(offset, length uint64) bool {
	return offset <= c.data && length <= c.data-offset
}

func (c *checker) span(s Span) bool { return c.inside(uint64(s.Offset), uint64(s.Length)) }

// spans checks what the header says of the data.
func (c *checker) spans() error {
	if !c.span(c.h.UIDMap) || !c.span(c.h.GIDMap) {
		return CheckError("id map outside the data")
	}
	if r := c.h.Rlimits; !c.span(r) || r.Offset%8 != 0 || r.Length%24 != 0 {
		return CheckError("limits outside the data")
	}
	return nil
}

func (c *checker) op(i int, o *Op) error {
	switch {
	case o.Dst != None && (o.Dst <= 0 || uint32(o.Dst) >= c.h.Slots):
		return CheckError("result slot out of range")
	case i+1+int(o.Skip) > int(c.h.Ops):
		return CheckError("skip past the end")
	case o.Ptr&o.Slot != 0 || (o.Ptr|o.Slot)>>6 != 0:
		return CheckError("argument masks overlap")
	}
	for a := range 6 {
		if o.Slot>>a&1 == 1 && o.Args[a] >= uint64(c.h.Slots) {
			return CheckError("argument slot out of range")
		}
		if o.Ptr>>a&1 == 1 && !c.inside(o.Args[a], 1) {
			return CheckError("argument outside the data")
		}
	}
	return c.pseudo(o)
}

// pseudo checks what pseudo calls need.
func (c *checker) pseudo(o *Op) error {
	word := uint64(0) // size of what is read or written at Args[0]
	switch o.NR {
	case OpStore, OpExpect:
		word = 4
	case OpStoreWord:
		word = 8
	case OpSpawn:
		if c.h.Staged == 0 {
			return CheckError("spawn in a program of one stage")
		}
	case OpJump, OpFail:
	default:
		if o.NR >= OpJump {
			return CheckError("unknown operation")
		}
	}
	if word > 0 && (o.Ptr&1 == 0 || o.Args[0]%word != 0 || !c.inside(o.Args[0], word)) {
		return CheckError("word outside the data")
	}
	return nil
}

// Relocate turns offsets into the data area into addresses, given that the block
// passed [Check] and stays where it is.
func Relocate(block []byte) {
	h := (*Header)(unsafe.Pointer(&block[0]))
	l := h.Layout()
	base := uint64(uintptr(unsafe.Pointer(&block[0]))) + uint64(l.Data)
	for i := range int(h.Ops) {
		o := (*Op)(unsafe.Pointer(&block[l.Ops+i*OpSize]))
		for a := range 6 {
			if o.Ptr>>a&1 == 1 {
				o.Args[a] += base
			}
		}
	}
	for i := range int(h.Relocs) {
		at := *(*uint32)(unsafe.Pointer(&block[l.Relocs+i*4]))
		*(*uint64)(unsafe.Pointer(&block[l.Data+int(at)])) += base
	}
}

// Failure is an operation that failed: its index, and why.
type Failure struct {
	Op    uint32
	Errno syscall.Errno
}
