package seccomp

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"runtime"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// compilerVersion goes into every key. It changes whenever the same profile
// compiles to another program, so that cached ones are not used any more.
const compilerVersion = 1

// key identifies a profile and the compiler.
type key [sha256.Size]byte

// profileKey hashes all of p that Compile reads, field by field with lengths and
// presence, so that two profiles with the same key mean the same. It is an order
// of magnitude cheaper than marshalling p.
func profileKey(p *specs.LinuxSeccomp) key {
	h := hasher{sum: sha256.New(), buf: make([]byte, 0, 1<<10)}
	h.number(compilerVersion)
	h.text(runtime.GOARCH)
	h.text(string(p.DefaultAction))
	h.optional(p.DefaultErrnoRet)
	h.number(uint64(len(p.Architectures)))
	for _, a := range p.Architectures {
		h.text(string(a))
	}
	if p.Flags == nil { // no flags and an empty list differ, see newFlags
		h.number(0)
	} else {
		h.number(uint64(len(p.Flags)) + 1)
	}
	for _, f := range p.Flags {
		h.text(string(f))
	}
	h.number(uint64(len(p.Syscalls)))
	for i := range p.Syscalls {
		s := &p.Syscalls[i]
		h.number(uint64(len(s.Names)))
		for _, n := range s.Names {
			h.text(n)
		}
		h.text(string(s.Action))
		h.optional(s.ErrnoRet)
		h.number(uint64(len(s.Args)))
		for _, a := range s.Args {
			h.number(uint64(a.Index))
			h.number(a.Value)
			h.number(a.ValueTwo)
			h.text(string(a.Op))
		}
	}
	h.flush()
	var k key
	h.sum.Sum(k[:0])
	return k
}

// hasher collects what is hashed; every item can be told from the next one.
type hasher struct {
	sum hash.Hash
	buf []byte
}

func (h *hasher) flush() {
	_, _ = h.sum.Write(h.buf) // never fails
	h.buf = h.buf[:0]
}

func (h *hasher) number(n uint64) { h.buf = binary.AppendUvarint(h.buf, n) }

func (h *hasher) text(s string) {
	if len(h.buf) > cap(h.buf)/2 {
		h.flush()
	}
	h.number(uint64(len(s)))
	h.buf = append(h.buf, s...)
}

func (h *hasher) optional(n *uint) {
	if n == nil {
		h.number(0)
		return
	}
	h.number(1)
	h.number(uint64(*n))
}
