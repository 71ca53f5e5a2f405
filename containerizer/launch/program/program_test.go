package program_test

import (
	"bytes"
	"errors"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/berth-dev/berth/containerizer/launch/program"
)

func sample(tb testing.TB) []byte {
	tb.Helper()
	var b program.Builder
	in := b.Input()
	r := b.NewSlot()
	b.Clone(0x20000, in)
	b.IDMaps("0 1 1\n", "0 1 1\n")
	b.Call(syscall.SYS_DUP, in).To(r).Accept(1, syscall.ENOENT)
	b.Call(program.OpStore, b.Zeros(4), r)
	b.Land(b.Jump())
	b.Call(syscall.SYS_EXECVE, b.Text("/bin/true"), b.Strings([]string{"true"}), b.Strings(nil))
	block, err := b.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return block
}

// aligned copies p to memory aligned to 8 bytes.
func aligned(p []byte) []byte {
	words := make([]uint64, len(p)/8+1)
	out := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(p))
	copy(out, p)
	return out
}

// The kernel would take the beginning for all of it.
func TestTextWithNUL(t *testing.T) {
	var b program.Builder
	b.Call(syscall.SYS_EXECVE, b.Text("/bin/true"), b.Strings([]string{"a", "b\x00c"}), b.Strings(nil))
	var refused program.CheckError
	if block, err := b.Encode(); block != nil || !errors.As(err, &refused) || !strings.Contains(err.Error(), "NUL byte") {
		t.Fatalf("got %d bytes, %v, want it refused", len(block), err)
	}
}

func TestEqualTextsAreStoredOnce(t *testing.T) {
	var b program.Builder
	proc, again, sys := b.Text("/proc"), b.Text("/proc"), b.Text("/sys")
	if proc != again || proc == sys {
		t.Error("texts are not told apart by their content")
	}
}

func TestRelocate(t *testing.T) {
	block := sample(t)
	program.Relocate(block)
	h := (*program.Header)(unsafe.Pointer(&block[0]))
	last := (*program.Op)(unsafe.Pointer(&block[h.Layout().Ops+(int(h.Ops)-1)*program.OpSize]))
	path := unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&last.Args[0]))), len("/bin/true\x00"))
	if !bytes.Equal(path, []byte("/bin/true\x00")) {
		t.Errorf("first argument points to %q", path)
	}
	argv := *(**[2]*byte)(unsafe.Pointer(&last.Args[1]))
	if *argv[0] != 't' || argv[1] != nil {
		t.Error("argv is not an array of pointers that ends in NULL")
	}
}

func TestCheckRefuses(t *testing.T) {
	op := func(block []byte, i int) *program.Op {
		return (*program.Op)(unsafe.Pointer(&block[program.HeaderSize+i*program.OpSize]))
	}
	header := func(block []byte) *program.Header { return (*program.Header)(unsafe.Pointer(&block[0])) }
	for name, damage := range map[string]func(block []byte){
		"magic":               func(b []byte) { header(b).Magic++ },
		"version":             func(b []byte) { header(b).Version++ },
		"size":                func(b []byte) { header(b).Size += 8 },
		"no operations":       func(b []byte) { header(b).Ops = 0 },
		"too many operations": func(b []byte) { header(b).Ops = program.MaxOps },
		"too many slots":      func(b []byte) { header(b).Slots = program.MaxSlots },
		"too many relocs":     func(b []byte) { header(b).Relocs = 1 << 20 },
		"inputs":              func(b []byte) { header(b).Inputs = header(b).Slots },
		"cgroup":              func(b []byte) { header(b).CgroupSlot = 2 },
		"map":                 func(b []byte) { header(b).UIDMap.Length = 1 << 30 },
		"result slot":         func(b []byte) { op(b, 0).Dst = 77 },
		"result into slot 0":  func(b []byte) { op(b, 0).Dst = 0 },
		"skip":                func(b []byte) { op(b, 0).Skip = 5 },
		"argument slot":       func(b []byte) { op(b, 0).Args[0] = 77 },
		"argument address":    func(b []byte) { op(b, 3).Args[0] = 1 << 40 },
		"both masks":          func(b []byte) { op(b, 3).Slot = op(b, 3).Ptr },
		"store address":       func(b []byte) { op(b, 1).Args[0] |= 1 },
		"spawn unannounced":   func(b []byte) { op(b, 0).NR = program.OpSpawn },
		"unknown operation":   func(b []byte) { op(b, 0).NR = 0x20000 },
		"relocation target": func(b []byte) {
			l := header(b).Layout()
			at := *(*uint32)(unsafe.Pointer(&b[l.Relocs]))
			b[l.Data+int(at)+6] = 1
		},
	} {
		t.Run(name, func(t *testing.T) {
			block := sample(t)
			damage(block)
			var e program.CheckError
			if err := program.Check(block); !errors.As(err, &e) {
				t.Errorf("check: %v, want a CheckError", err)
			}
		})
	}
	if err := program.Check(aligned(sample(t)[:40])); err == nil {
		t.Error("a truncated program passes")
	}
}

func TestTooLarge(t *testing.T) {
	var b program.Builder
	b.Call(syscall.SYS_CHDIR, b.Bytes(make([]byte, program.MaxSize)))
	if _, err := b.Encode(); err == nil {
		t.Error("a program beyond the size limit is encoded")
	}
}

// Whatever passes Check can be relocated without touching anything outside.
func FuzzCheck(f *testing.F) {
	f.Add(sample(f))
	f.Add([]byte("BRTH"))
	f.Fuzz(func(_ *testing.T, p []byte) {
		if len(p) == 0 {
			return
		}
		block := aligned(p)
		if program.Check(block) == nil {
			program.Relocate(block)
		}
	})
}
