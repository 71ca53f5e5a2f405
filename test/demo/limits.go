package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const cgroupRoot = "/sys/fs/cgroup"

// limits are those of the control group, of whichever version is mounted here.
func limits() []fact {
	facts := []fact{one("control group", "%s", ownGroup())}
	if _, err := os.Stat(cgroupRoot + "/cgroup.controllers"); err == nil {
		facts = append(facts,
			one("memory", "%s", bytes(read("memory.max"))),
			one("processors", "%s", share(strings.Fields(read("cpu.max")))),
			one("processes", "%s", read("pids.max")))
	} else {
		facts = append(facts,
			one("memory", "%s", bytes(read("memory/memory.limit_in_bytes"))),
			one("processors", "%s", share([]string{read("cpu/cpu.cfs_quota_us"), read("cpu/cpu.cfs_period_us")})),
			one("processes", "%s", read("pids/pids.max")))
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err == nil {
		facts = append(facts, one("open files", "%d", files.Cur))
	}
	return facts
}

// ownGroup is "/" where the control group namespace hides what is above.
func ownGroup() string {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return why(err)
	}
	var paths []string
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) == 3 && !seen[fields[2]] {
			seen[fields[2]] = true
			paths = append(paths, fields[2])
		}
	}
	return strings.Join(paths, " ")
}

// read returns the content of a file below the control group's root.
func read(name string) string {
	text, err := os.ReadFile(filepath.Join(cgroupRoot, name))
	if err != nil {
		return why(err)
	}
	return strings.TrimSpace(string(text))
}

func bytes(text string) string {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return text
	}
	const unlimited = 1 << 60 // version 1 writes a number near 2^63
	if n >= unlimited {
		return "unlimited"
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

// share turns a quota and a period into a number of processors.
func share(fields []string) string {
	if len(fields) != 2 {
		return strings.Join(fields, " ")
	}
	quota, err := strconv.ParseFloat(fields[0], 64)
	period, err2 := strconv.ParseFloat(fields[1], 64)
	switch {
	case fields[0] == "max" || fields[0] == "-1":
		return "unlimited"
	case err != nil || err2 != nil || period == 0:
		return strings.Join(fields, " of ")
	}
	return strconv.FormatFloat(quota/period, 'g', 3, 64)
}

// why is the cause of an error without the path that the reader knows.
func why(err error) string {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err.Error()
	}
	return err.Error()
}
