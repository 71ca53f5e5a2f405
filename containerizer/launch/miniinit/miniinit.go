package miniinit

import (
	"bytes"
	"encoding/binary"
	"unsafe"
)

// codeAddress is where the machine code begins; it is in an assembly file for each
// architecture, and ends with endMarker.
func codeAddress() unsafe.Pointer

// endMarker stands behind the code and is never executed.
//
//nolint:gochecknoglobals // a constant
var endMarker = []byte("berth-init ends.")

const maxCode = 4096

// Numbers of elf(5).
const (
	headerSize, segmentSize = 64, 56
	segments                = 2
	typeExec                = 2
	segmentLoad             = 1
	segmentStack            = 0x6474e551 // PT_GNU_STACK
	readable, writable      = 4, 2
	executable              = 1
	// address is where the file is mapped; nothing in the code depends on it.
	address   = 0x400000
	alignment = 0x10000
)

// ELF returns the executable file.
func ELF() []byte {
	text := machineCode()
	const codeOffset = headerSize + segments*segmentSize
	size := uint64(codeOffset + len(text))
	le := binary.LittleEndian

	b := make([]byte, 0, size)
	b = append(b, 0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0) // 64-bit, little-endian, version 1
	b = le.AppendUint16(b, typeExec)
	b = le.AppendUint16(b, machine)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, address+codeOffset) // entry
	b = le.AppendUint64(b, headerSize)         // program headers
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, 0)
	for _, n := range []uint16{headerSize, segmentSize, segments, 0, 0, 0} {
		b = le.AppendUint16(b, n)
	}
	b = appendSegment(b, segmentLoad, readable|executable, address, size, alignment)
	b = appendSegment(b, segmentStack, readable|writable, 0, 0, 16)
	return append(b, text...)
}

func appendSegment(b []byte, kind, flags uint32, at, size, align uint64) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, kind)
	b = le.AppendUint32(b, flags)
	for _, n := range []uint64{0, at, at, size, size, align} {
		b = le.AppendUint64(b, n)
	}
	return b
}

// machineCode is the code up to its marker.
func machineCode() []byte {
	text := unsafe.Slice((*byte)(codeAddress()), maxCode)
	return text[:bytes.Index(text, endMarker)]
}
