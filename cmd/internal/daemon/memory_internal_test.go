package daemon

import (
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMemoryIsGivenBack: once work that took memory is over, and not for less.
func TestMemoryIsGivenBack(t *testing.T) {
	freed := make(chan struct{})
	m := &memory{touched: make(chan struct{}, 1), pause: time.Millisecond, enough: 32 << 20, free: func(uint64) { freed <- struct{}{} }}
	var wg sync.WaitGroup
	wg.Go(func() { m.run(t.Context()) })
	m.touch()
	select {
	case <-freed:
		t.Error("memory was given back though nothing was asked for")
	case <-time.After(50 * m.pause):
	}
	work := make([][]byte, 0, 64)
	for range cap(work) {
		work = append(work, make([]byte, 1<<20))
	}
	m.touch()
	<-freed
	if len(work) == 0 {
		t.Error("it was not work")
	}
	t.Cleanup(wg.Wait) // the context has ended by then
}

// TestDropCode: the program goes on with less of itself in memory.
func TestDropCode(t *testing.T) {
	before := mapped(t)
	if err := dropCode(); err != nil {
		t.Fatal(err)
	}
	if after := mapped(t); after == before {
		t.Errorf("%q of files are in memory, as before", after)
	}
}

// mapped is how much of files the process has in memory.
func mapped(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "RssFile:"); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatal("the kernel does not tell")
	return ""
}
