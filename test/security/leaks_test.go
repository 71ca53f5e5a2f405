package security_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// checkNothingLeft waits until no process, mount, control group or record of the
// node's containers is there.
func (n *node) checkNothingLeft() {
	n.t.Helper()
	eventually(n.t, func() string {
		left := slices.Concat(n.processes(), n.mounts(), n.records())
		for _, dir := range n.groups() {
			// Groups of device rules are shared and stay, empty.
			if id := filepath.Base(dir); len(id) == 64 {
				left = append(left, "control group "+dir)
			}
		}
		if len(left) > 0 {
			return "left behind:\n" + strings.Join(left, "\n")
		}
		return ""
	})
	for _, dir := range n.groups() {
		_ = unix.Rmdir(dir) // a busy one was reported
	}
}

// processes are those that have to do with the node.
func (n *node) processes() []string {
	var found []string
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		line, _ := os.ReadFile(path)
		group, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cgroup"))
		if len(line) > 0 && (strings.Contains(string(line), n.dir+"/") || strings.Contains(string(group), n.parent+"/")) {
			found = append(found, fmt.Sprintf("process %s %q", filepath.Dir(path), line))
		}
	}
	return found
}

func (n *node) mounts() []string {
	text, _ := os.ReadFile("/proc/self/mountinfo")
	var found []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, n.dir+"/") {
			found = append(found, "mount "+strings.TrimSpace(line))
		}
	}
	return found
}

// records are what the engine knows of containers.
func (n *node) records() []string {
	var found []string
	for _, dir := range []string{"state/containers", "state/names", "root/records"} {
		entries, _ := os.ReadDir(n.path(dir))
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), ".lock") {
				found = append(found, "record "+filepath.Join(dir, e.Name()))
			}
		}
	}
	return found
}

// groups are the node's control groups, the deepest first.
func (n *node) groups() []string {
	var found []string
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		parents, _ := filepath.Glob(pattern + n.parent)
		for _, p := range parents {
			_ = filepath.WalkDir(p, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					found = append(found, path)
				}
				return nil // groups come and go
			})
		}
	}
	slices.SortFunc(found, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(found)
}
