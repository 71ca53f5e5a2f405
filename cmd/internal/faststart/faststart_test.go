package faststart

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

func TestOneP(t *testing.T) {
	if got := runtime.GOMAXPROCS(0); got != 1 {
		t.Errorf("GOMAXPROCS: got %d, want 1", got)
	}
}

// The test's own process has begun as a command does.
func TestHeapIsHuge(t *testing.T) {
	// A mapping of our own tells whether this kernel makes huge pages when asked.
	probe, err := syscall.Mmap(-1, 0, 2*hugePageSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Munmap(probe) }()
	whole := (uintptr(unsafe.Pointer(&probe[0])) + hugePageSize - 1) &^ (hugePageSize - 1)
	advise(whole, hugePageSize, advHugePage)
	*(*byte)(unsafe.Add(unsafe.Pointer(&probe[0]), whole-uintptr(unsafe.Pointer(&probe[0])))) = 1
	advise(whole, hugePageSize, advCollapse)
	if hugeKiB(t, whole) == 0 {
		t.Skip("this kernel makes no huge pages of 2 MiB when asked: nothing to gain")
	}
	if hugeKiB(t, uintptr(unsafe.Pointer(new([64]byte)))) == 0 {
		t.Error("no page of the heap is huge")
	}
}

// hugeKiB is how much of the mapping around addr is huge pages, by proc_pid_smaps(5).
func hugeKiB(t *testing.T, addr uintptr) (n int) {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	inside := false
	for s := bufio.NewScanner(f); s.Scan(); {
		var from, to uintptr
		if _, err := fmt.Sscanf(s.Text(), "%x-%x ", &from, &to); err == nil {
			inside = from <= addr && addr < to
		}
		if inside && strings.HasPrefix(s.Text(), "AnonHugePages:") {
			if _, err := fmt.Sscanf(s.Text(), "AnonHugePages: %d kB", &n); err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no mapping holds %#x", addr)
	return 0
}

// The segments found are those of the executable that cannot be written.
func TestSegments(t *testing.T) {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	var want []segment
	for line := range strings.Lines(string(text)) {
		var from, to uintptr
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err == nil && strings.Contains(line, self) && !strings.Contains(mode, "w") {
			want = append(want, segment{from, to - from})
		}
	}
	got := segments(getAuxv())
	if len(got) == 0 {
		t.Fatal("no segments")
	}
	for _, s := range got {
		if !slices.ContainsFunc(want, func(w segment) bool { return w.start <= s.start && s.start+s.size <= w.start+w.size }) {
			t.Errorf("segment %#x of %#x bytes is not one of %#x", s.start, s.size, want)
		}
	}
	code := **(**uintptr)(unsafe.Pointer(&[]func(){func() {}}[0]))
	if !slices.ContainsFunc(got, func(s segment) bool { return s.start <= code && code < s.start+s.size }) {
		t.Errorf("no segment of %#x has the code at %#x", got, code)
	}
}

func TestSegmentsOfNothing(t *testing.T) {
	for _, auxv := range [][]uintptr{nil, {atPHDR}, {atPHDR, 0, atPHNum, 3, atPageSz, 4096}, {atPHNum, 3, atPageSz, 4096}} {
		if got := segments(auxv); got != nil {
			t.Errorf("%v: got %v", auxv, got)
		}
	}
}
