package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// identity is process, host name, user and namespaces.
func identity() []fact {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = err.Error()
	}
	facts := []fact{
		one("process id", "%d, one of %d processes here", os.Getpid(), len(processes())),
		one("host name", "%s", hostname),
		one("user, group", "%d, %d; other groups %v", os.Getuid(), os.Getgid(), groups()),
		one("user on the host", "%s", mapped("/proc/self/uid_map", os.Getuid())),
	}
	var kinds []string
	for _, kind := range []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"} {
		if link, err := os.Readlink("/proc/self/ns/" + kind); err == nil {
			kinds = append(kinds, link)
		}
	}
	const perLine = 4
	namespaces := fact{name: "namespaces"}
	for len(kinds) > 0 {
		n := min(perLine, len(kinds))
		namespaces.values = append(namespaces.values, strings.Join(kinds[:n], " "))
		kinds = kinds[n:]
	}
	return append(facts, namespaces)
}

// processes are the ids that /proc shows.
func processes() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func groups() []int {
	ids, err := os.Getgroups()
	if err != nil {
		return nil
	}
	return ids
}

// mapped tells what id is outside, by the table of a user namespace
// (user_namespaces(7)): lines of inside, outside, length.
func mapped(path string, id int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(text)) {
		var inside, outside, length int
		if _, err := fmt.Sscan(line, &inside, &outside, &length); err != nil {
			return err.Error()
		}
		if id >= inside && id < inside+length {
			return strconv.Itoa(outside + id - inside)
		}
	}
	return "none: this id is not mapped"
}
