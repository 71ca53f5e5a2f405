package soak_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// sample is what a daemon and its node take at one moment.
type sample struct {
	rss, pss, heap          int // kB
	descriptors, goroutines int
	threads                 int
	processes               int // that have to do with the node
	mounts, groups, links   int
	stateFiles, rootFiles   int
	cpu                     time.Duration
}

// String is a line of a table.
func (s *sample) String() string {
	return fmt.Sprintf("rss %.1f MB, pss %.1f MB, heap %.1f MB, %d descriptors, %d goroutines, %d threads, %d processes, %d mounts, %d control groups, %d interfaces, %d files in state, %d in root",
		float64(s.rss)/1000, float64(s.pss)/1000, float64(s.heap)/1000, s.descriptors, s.goroutines, s.threads, s.processes, s.mounts, s.groups, s.links, s.stateFiles, s.rootFiles)
}

// sample reads it, after a collection of garbage when collect asks for it.
func (n *node) sample(collect bool) *sample {
	n.Helper()
	if collect {
		n.debug("/debug/pprof/heap?gc=1")
		n.debug("/debug/pprof/heap?gc=1") // what lies in pools goes with the second
	}
	metrics := n.debug("/metrics")
	proc := fmt.Sprintf("/proc/%d/", n.cmd.Process.Pid)
	s := &sample{
		rss: n.kilobytes(proc+"status", "VmRSS"), pss: n.kilobytes(proc+"smaps_rollup", "Pss"),
		heap:        int(metric(metrics, "go_memstats_heap_alloc_bytes") / 1000),
		descriptors: entries(proc + "fd"), threads: entries(proc + "task"), goroutines: int(metric(metrics, "go_goroutines")),
		processes: len(n.processes()), mounts: n.mounts(), groups: n.groups(), links: entries("/sys/class/net"),
		stateFiles: n.files("state"), rootFiles: n.files("root"), cpu: n.cpu(),
	}
	return s
}

// profile keeps what there is to know of the daemon's memory, if that is asked for.
func (n *node) profile(name string) {
	n.Helper()
	if *profiles == "" {
		return
	}
	smaps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", n.cmd.Process.Pid))
	if err != nil {
		n.Fatal(err)
	}
	for kind, content := range map[string]string{
		"smaps": string(smaps), "goroutines": n.debug("/debug/pprof/goroutine?debug=1"),
		"heap": n.debug("/debug/pprof/heap"), "metrics": n.debug("/metrics"),
	} {
		if err := os.WriteFile(filepath.Join(*profiles, name+"."+kind), []byte(content), 0o600); err != nil {
			n.Fatal(err)
		}
	}
}

func (n *node) kilobytes(path, field string) int {
	n.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		n.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			v, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				n.Fatal(err)
			}
			return v * 1024 / 1000
		}
	}
	n.Fatalf("%s has no %s", path, field)
	return 0
}

func entries(path string) int {
	found, _ := os.ReadDir(path) // nothing where there is none
	return len(found)
}

// cpu is what the daemon has used.
func (n *node) cpu() time.Duration {
	n.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.cmd.Process.Pid))
	if err != nil {
		n.Fatal(err)
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 everywhere that we run
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	var sum time.Duration
	for _, f := range fields[11:13] {
		v, err := strconv.Atoi(f)
		if err != nil {
			n.Fatal(err)
		}
		sum += time.Duration(v) * tick
	}
	return sum
}

// processes are those that name the node's folder or are in its control groups, but
// for the daemon.
func (n *node) processes() []string {
	var found []string
	all, _ := filepath.Glob("/proc/[0-9]*") // a good pattern
	for _, dir := range all {
		line, _ := os.ReadFile(filepath.Join(dir, "cmdline")) // it may have ended
		group, _ := os.ReadFile(filepath.Join(dir, "cgroup"))
		if len(line) == 0 || filepath.Base(dir) == strconv.Itoa(n.cmd.Process.Pid) {
			continue
		}
		if strings.Contains(string(line), n.dir) || strings.Contains(string(group), n.parent+"/") {
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

func (n *node) mounts() (count int) {
	n.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		n.Fatal(err)
	}
	return strings.Count(string(b), n.dir+"/")
}

func (n *node) groups() (count int) {
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		parents, _ := filepath.Glob(pattern + n.parent) // a good pattern
		for _, p := range parents {
			_ = filepath.WalkDir(p, func(_ string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					count++
				}
				return nil
			})
		}
	}
	return count
}

// files counts, without the journal, of which the last two files stay.
func (n *node) files(folder string) (count int) {
	_ = filepath.WalkDir(n.path(folder), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it went meanwhile
		}
		if d.IsDir() && path == n.path("state/journal") {
			return fs.SkipDir
		}
		count++
		return nil
	})
	return count
}

// slack is by how much a number may be larger than before.
type slack struct {
	what          string
	before, after int
	most          int
}

// grown lists what is larger than it may be.
func grown(before, after *sample) []string {
	var found []string
	for _, s := range []slack{
		// Pages that the runtime keeps for the next burst, in kB.
		{"rss", before.rss, after.rss, 10_000},
		{"pss", before.pss, after.pss, 10_000},
		{"heap", before.heap, after.heap, 4_000},
		{"descriptors", before.descriptors, after.descriptors, 4},
		{"goroutines", before.goroutines, after.goroutines, 8},
		// The runtime never ends a thread.
		{"threads", before.threads, after.threads, 16},
		{"processes", before.processes, after.processes, 0},
		{"mounts", before.mounts, after.mounts, 0},
		{"control groups", before.groups, after.groups, 0},
		{"interfaces", before.links, after.links, 0},
		{"files in state", before.stateFiles, after.stateFiles, 4},
		{"files in root", before.rootFiles, after.rootFiles, 4},
	} {
		if s.after > s.before+s.most {
			found = append(found, fmt.Sprintf("%s: %d before, %d after, at most %d more is right", s.what, s.before, s.after, s.most))
		}
	}
	slices.Sort(found)
	return found
}

// settle samples until nothing is grown, for a while: what was put off has a moment.
func (n *node) settle(before *sample) (*sample, []string) {
	n.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		after := n.sample(true)
		if left := grown(before, after); len(left) == 0 || time.Now().After(end) {
			return after, left
		}
	}
}
