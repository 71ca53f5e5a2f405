package interp

import (
	"syscall"
	"unsafe"

	"github.com/berth-dev/berth/containerizer/launch/program"
)

// stackSize of each of the two processes of a program. run and what it calls need
// less than Go's nosplit limit of 792 bytes; only touched pages cost memory.
const stackSize = 16 << 10

// Image is a program ready to be spawned, once. Close it when its child has
// reached ProgressRunning or ProgressFailed, not before.
type Image struct {
	block  []byte
	stacks []byte
	header *program.Header
	slots  unsafe.Pointer
}

// Load maps the program of size bytes that begins the memfd, and checks it. The
// descriptor stays the caller's. The file must not be changed afterwards.
func Load(fd, size int) (*Image, error) {
	if size < program.HeaderSize || size > program.MaxSize {
		return nil, program.CheckError("size out of range")
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Size < int64(size) { // touching it would be SIGBUS
		return nil, program.CheckError("file shorter than the program")
	}
	block, err := mmap(fd, size, syscall.MAP_SHARED|syscall.MAP_POPULATE)
	if err != nil {
		return nil, err
	}
	im, err := newImage(block)
	if err != nil {
		munmap(block)
		return nil, err
	}
	return im, nil
}

// LoadBlock loads a program from memory, for a caller that has it there.
func LoadBlock(p []byte) (*Image, error) {
	if len(p) < program.HeaderSize || len(p) > program.MaxSize {
		return nil, program.CheckError("size out of range")
	}
	block, err := mmap(-1, len(p), syscall.MAP_SHARED|syscall.MAP_ANON|syscall.MAP_POPULATE)
	if err != nil {
		return nil, err
	}
	copy(block, p)
	im, err := newImage(block)
	if err != nil {
		munmap(block)
		return nil, err
	}
	return im, nil
}

func newImage(block []byte) (*Image, error) {
	if err := program.Check(block); err != nil {
		return nil, err
	}
	h := (*program.Header)(unsafe.Pointer(&block[0]))
	if h.Copy != 0 {
		withhold()
	}
	stacks, err := mmap(-1, 2*stackSize, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE|syscall.MAP_STACK)
	if err != nil {
		return nil, err
	}
	program.Relocate(block)
	h.Stack = uint64(uintptr(unsafe.Pointer(&stacks[stackSize])))
	h.StackSize = stackSize
	return &Image{
		block:  block,
		stacks: stacks,
		header: h,
		slots:  unsafe.Pointer(&block[h.Layout().Slots]),
	}, nil
}

// Close unmaps the program. It is idempotent.
func (im *Image) Close() error {
	if im.block != nil {
		munmap(im.block)
		munmap(im.stacks)
		im.block, im.stacks = nil, nil
	}
	return nil
}

func (im *Image) setSlot(i, v int) {
	*(*int64)(unsafe.Add(im.slots, i*8)) = int64(v)
}

func mmap(fd, size, flags int) ([]byte, error) {
	p, _, e := syscall.Syscall6(syscall.SYS_MMAP, 0, uintptr(size), syscall.PROT_READ|syscall.PROT_WRITE, uintptr(flags), uintptr(fd), 0)
	if e != 0 {
		return nil, e
	}
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&p))), size), nil
}

func munmap(b []byte) {
	_, _, _ = syscall.Syscall(syscall.SYS_MUNMAP, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0)
}
