package seccomp_test

import (
	"fmt"

	"github.com/berth-dev/berth/containerizer/launch/seccomp"
)

// call is struct seccomp_data without the instruction pointer.
type call struct {
	nr, arch uint32
	args     [6]uint64
}

func (c call) String() string { return fmt.Sprintf("arch %#x nr %#x args %#x", c.arch, c.nr, c.args) }

func (c call) word(offset uint32) uint32 {
	switch {
	case offset == 0:
		return c.nr
	case offset == 4:
		return c.arch
	case offset >= 16 && offset < 64 && offset%8 == 0:
		return uint32(c.args[(offset-16)/8])
	case offset >= 16 && offset < 64 && offset%8 == 4:
		return uint32(c.args[(offset-16)/8] >> 32)
	}
	panic(fmt.Sprintf("load of offset %d, which the kernel would refuse", offset))
}

// run is a machine for classic BPF as the kernel's bpf_prog_run_pin_on_cpu; it returns
// the verdict and how many instructions that took. It panics where the kernel
// would refuse the program.
func run(program []seccomp.SockFilter, c call) (verdict uint32, steps int) {
	var acc uint32
	for pc := 0; ; pc++ {
		i := program[pc]
		steps++
		taken := false
		switch i.Code {
		case 0x20:
			acc = c.word(i.K)
			continue
		case 0x54:
			acc &= i.K
			continue
		case 0x05:
			pc += int(i.K)
			continue
		case 0x06:
			return i.K, steps
		case 0x15:
			taken = acc == i.K
		case 0x35:
			taken = acc >= i.K
		case 0x45:
			taken = acc&i.K != 0
		default:
			panic(fmt.Sprintf("instruction %d: code %#x", pc, i.Code))
		}
		if taken {
			pc += int(i.JT)
		} else {
			pc += int(i.JF)
		}
	}
}
