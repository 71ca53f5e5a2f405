package pull

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// sampleEvery is often enough for a peak that lasts, and costs about a hundredth of
// a processor.
const sampleEvery = 20 * time.Millisecond

// footprint samples the memory of process trees.
type footprint struct {
	roots []int
	exe   map[int]string
	peak  int64 // bytes
	quit  chan struct{}
	ended chan struct{}
}

func watch(roots ...int) *footprint {
	f := &footprint{roots: roots, exe: map[int]string{}, quit: make(chan struct{}), ended: make(chan struct{})}
	go f.run()
	return f
}

func (f *footprint) run() {
	defer close(f.ended)
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-f.quit:
			return
		case <-tick.C:
			f.peak = max(f.peak, f.sample())
		}
	}
}

// stop ends the sampling and returns the peak in bytes.
func (f *footprint) stop() int64 {
	close(f.quit)
	<-f.ended
	return f.peak
}

// sample adds up private pages, and file pages once for each program.
func (f *footprint) sample() int64 {
	var private int64
	shared := map[string]int64{}
	for _, root := range f.roots {
		for _, pid := range tree(root) {
			raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
			if err != nil {
				continue // it ended
			}
			fields := strings.Fields(string(raw))
			if len(fields) < 3 {
				continue
			}
			resident, _ := strconv.ParseInt(fields[1], 10, 64) // the kernel wrote a number
			mapped, _ := strconv.ParseInt(fields[2], 10, 64)   // likewise
			private += resident - mapped
			if f.exe[pid] == "" {
				f.exe[pid], _ = os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)) // "" is a program like others
			}
			shared[f.exe[pid]] = max(shared[f.exe[pid]], mapped)
		}
	}
	for _, n := range shared {
		private += n
	}
	return private * int64(os.Getpagesize())
}

// tree is a process and all its descendants.
func tree(pid int) []int {
	out := []int{pid}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return out
	}
	for _, t := range tasks {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, t.Name()))
		if err != nil {
			continue
		}
		for field := range bytes.FieldsSeq(raw) {
			if child, err := strconv.Atoi(string(field)); err == nil {
				out = append(out, tree(child)...)
			}
		}
	}
	return out
}

// processorTime is that of a process and of its children that have ended.
func processorTime(pid int) time.Duration {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(raw, []byte(") "))
	fields := bytes.Fields(rest)
	const utime, cstime, hz = 11, 14, 100 // proc_pid_stat(5); USER_HZ is 100 everywhere
	var ticks int64
	for i := utime; i <= cstime && i < len(fields); i++ {
		n, _ := strconv.ParseInt(string(fields[i]), 10, 64) // the kernel wrote a number
		ticks += n
	}
	return time.Duration(ticks) * time.Second / hz
}
