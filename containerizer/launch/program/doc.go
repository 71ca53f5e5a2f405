// Package program is the form of a launch program: a flat array of system calls
// with a data area, made by containerizer/launch and executed by
// containerizer/launch/interp. It knows nothing of containers.
//
// An encoded program is one block of bytes:
//
//	header       [HeaderSize]byte, see [Header]
//	operations   [Header.Ops]Op, 64 bytes each
//	relocations  [Header.Relocs]uint32: where in the data area an offset into the
//	             data area stands that the loader turns into an address
//	slots        [Header.Slots]uint64: results of operations and input descriptors
//	data         strings, structures and buffers, 8-byte aligned
//
// All numbers are little-endian. Slot 0 is the child's end of the progress
// socket, slots 1..Header.Inputs are the input descriptors in order. Input
// descriptors are never closed by an operation: close_range(2) at the end of the
// program takes them all.
//
// Main invariant: [Check] accepts nothing that would make the interpreter read or
// write outside the block. (Which system calls it makes is the compiler's
// affair: a program is as trusted as the process that executes it.)
//
// The package links into berth-monitor: it imports nothing but syscall and unsafe.
package program
