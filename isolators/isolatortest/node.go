package isolatortest

import (
	"encoding/json"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// testNoGrowth repeats the round trip and compares descriptors and goroutines.
func (s *suite) testNoGrowth(t *testing.T) {
	t.Helper()
	iso, f := s.cfg.New(t), s.container(t)
	round := func() {
		s.mustPrepare(t, iso, f)
		s.mustClean(t, iso, f.Container)
	}
	round() // what is opened once and kept
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	for range 5 {
		round()
	}
	within := func(what string, before int, count func() int) {
		for deadline := time.Now().Add(2 * time.Second); count() > before; {
			if time.Now().After(deadline) {
				t.Errorf("%s grew from %d to %d in 5 rounds", what, before, count())
				return
			}
			runtime.Gosched()
		}
	}
	within("open files", files, func() int { return openFiles(t) })
	within("goroutines", goroutines, runtime.NumGoroutine)
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// mountTable is the list of mount points of the host, in order.
func mountTable(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	var points []string
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) > 1 {
			points = append(points, fields[1])
		}
	}
	return points
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("encode %T: %v", v, err)
	}
	return string(b)
}

func fromJSON(t *testing.T, s string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(s), v); err != nil {
		t.Fatalf("decode %T: %v", v, err)
	}
}
