package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// monitored is a contender that keeps a process by each container.
type monitored interface {
	Name() string
	Start(ctx context.Context, id string) error
	Stop(ctx context.Context, id string) error
}

// memoryUse is the mean over the monitors of one contender.
type memoryUse struct {
	count               int
	pss, rss, private   float64 // KiB each
	threads, switchRate float64 // switchRate is context switches a minute
}

// measureMonitors starts n containers and reads what the processes whose command
// name is comm and that were not there before take.
func measureMonitors(ctx context.Context, m monitored, comm string, n int) (*memoryUse, error) {
	before := processesNamed(comm)
	defer func() {
		for i := range n {
			_ = m.Stop(context.WithoutCancel(ctx), containerName("memory", i)) // those that never started cannot be stopped
		}
	}()
	for i := range n {
		if err := m.Start(ctx, containerName("memory", i)); err != nil {
			return nil, err
		}
	}
	var pids []int
	for pid := range processesNamed(comm) {
		if !before[pid] {
			pids = append(pids, pid)
		}
	}
	if len(pids) != n {
		return nil, fmt.Errorf("%s: %d containers and %d processes called %q", m.Name(), n, len(pids), comm)
	}
	const settle, watch = 2 * time.Second, 6 * time.Second
	wait(ctx, settle)
	first, err := readAll(pids)
	if err != nil {
		return nil, err
	}
	wait(ctx, watch)
	second, err := readAll(pids)
	if err != nil {
		return nil, err
	}
	use := mean(second)
	use.switchRate = (use.switchRate - mean(first).switchRate) * float64(time.Minute) / float64(watch)
	return use, nil
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// processesNamed returns the ids of processes with a command name.
func processesNamed(comm string) map[int]bool {
	found := map[int]bool{}
	paths, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil || strings.TrimSpace(string(text)) != comm {
			continue // it ended meanwhile, or is another
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(p))); err == nil {
			found[pid] = true
		}
	}
	return found
}

// usage of one process, by the field names of /proc.
type usage map[string]float64

func readAll(pids []int) ([]usage, error) {
	var all []usage
	for _, pid := range pids {
		u := usage{}
		for _, name := range []string{"smaps_rollup", "status"} {
			if err := u.read(fmt.Sprintf("/proc/%d/%s", pid, name)); err != nil {
				return nil, err
			}
		}
		all = append(all, u)
	}
	return all, nil
}

// read adds the lines "Field: NUMBER ..." of a file of /proc.
func (u usage) read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read from
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, rest, ok := strings.Cut(lines.Text(), ":")
		fields := strings.Fields(rest)
		if !ok || len(fields) == 0 {
			continue
		}
		if v, err := strconv.ParseFloat(fields[0], 64); err == nil {
			u[key] = v
		}
	}
	return lines.Err()
}

func mean(all []usage) *memoryUse {
	m := &memoryUse{count: len(all)}
	n := float64(len(all))
	for _, u := range all {
		m.pss += u["Pss"] / n
		m.rss += u["Rss"] / n
		m.private += (u["Private_Clean"] + u["Private_Dirty"]) / n
		m.threads += u["Threads"] / n
		m.switchRate += (u["voluntary_ctxt_switches"] + u["nonvoluntary_ctxt_switches"]) / n
	}
	return m
}
