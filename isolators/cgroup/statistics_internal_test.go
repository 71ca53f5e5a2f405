package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// statGroup makes a group without processes, gone after the test.
func statGroup(tb testing.TB, h *hierarchy, name string) string {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("control groups need root")
	}
	dir := h.dir + "/berthtest-" + fmt.Sprint(os.Getpid()) + "-" + name
	if err := mkdir(dir); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = rmdir(dir) })
	return dir
}

func open0(tb testing.TB) int {
	tb.Helper()
	found, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		tb.Fatal(err)
	}
	return len(found)
}

// TestStatistics: a file is opened once, opened anew when its group was replaced, and
// closed with its group.
func TestStatistics(t *testing.T) {
	n, err := detect(DefaultRoot)
	if err != nil {
		t.Fatal(err)
	}
	h := &n.hierarchies[0]
	dir := statGroup(t, h, "stat")
	const file = "cgroup.procs"
	var s statistics
	before := open0(t)
	for range 3 {
		if got, err := s.read(dir, file); err != nil || got != "" {
			t.Fatalf("read = %q, %v", got, err)
		}
	}
	if got := open0(t) - before; got != 1 || len(s.m) != 1 {
		t.Fatalf("%d descriptors and %d entries after three reads, want 1", got, len(s.m))
	}
	stale := s.m[statistic{dir, file}]
	if err := rmdir(dir); err != nil {
		t.Fatalf("the descriptor keeps the group: %v", err)
	}
	if _, err := s.read(dir, file); !isAny(err, unix.ENOENT) {
		t.Fatalf("read of a group that is gone = %v, want ENOENT", err)
	}
	if err := mkdir(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := s.read(dir, file); err != nil {
		t.Fatalf("read of a group made anew = %v", err)
	}
	if s.m[statistic{dir, file}] == stale {
		t.Error("the stale descriptor is still used")
	}
	s.drop(dir)
	if got := open0(t) - before; got != 0 {
		t.Errorf("%d descriptors are left", got)
	}
}

// TestStatisticsStale: between two reads a group is replaced by another one.
func TestStatisticsStale(t *testing.T) {
	n, err := detect(DefaultRoot)
	if err != nil {
		t.Fatal(err)
	}
	dir := statGroup(t, &n.hierarchies[0], "stale")
	const file = "notify_on_release"
	name := file
	if n.unified {
		name = "cgroup.max.depth"
	}
	var s statistics
	defer s.drop(dir)
	first, err := s.read(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	value := "1"
	if first == value {
		t.Fatalf("the value is %q to begin with", first)
	}
	if err := rmdir(dir); err != nil {
		t.Fatal(err)
	}
	if err := mkdir(dir); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(dir+"/"+name, value); err != nil {
		t.Fatal(err)
	}
	if got, err := s.read(dir, name); err != nil || got != value {
		t.Errorf("read after the group was replaced = %q, %v; want %q", got, err, value)
	}
}

// TestStatisticsBound: what does not fit is read all the same, and what is idle goes.
func TestStatisticsBound(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"), []byte("7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := statistics{m: map[statistic]*statFile{}, swept: time.Now()}
	for i := range maxStatistics {
		f := &statFile{fd: -1, used: time.Now().Add(-2 * statisticsIdle)}
		f.users.Store(1)
		s.m[statistic{"none", fmt.Sprint(i)}] = f
	}
	before := open0(t)
	if got, err := s.read(dir, "x"); err != nil || got != "7" {
		t.Errorf("read beyond the bound = %q, %v", got, err)
	}
	if got := open0(t) - before; got != 0 || len(s.m) != maxStatistics {
		t.Errorf("%d descriptors more, %d entries", got, len(s.m))
	}
	s.swept = time.Time{}
	if _, err := s.read(dir, "x"); err != nil || len(s.m) != 1 {
		t.Errorf("after sweeping %d entries, %v; want the one", len(s.m), err)
	}
	s.drop(dir)
}

// TestStatisticsRace: readers and removers at once, for the race detector.
func TestStatisticsRace(t *testing.T) {
	dir := t.TempDir()
	want := strings.Repeat("line\n", 2000) // more than the buffer
	if err := os.WriteFile(filepath.Join(dir, "x"), []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
	var s statistics
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if got, err := s.read(dir, "x"); err != nil || got != strings.TrimSuffix(want, "\n") {
					t.Errorf("read %d bytes, %v", len(got), err)
					return
				}
				s.drop(dir)
			}
		})
	}
	wg.Wait()
}
