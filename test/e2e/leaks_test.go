package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// files are the paths below a node, with what they are.
type files map[string]fs.FileMode

// journal is the folder of the journal: every few minutes a file more, of which the
// last two stay.
const journal, journalKept = "state/journal", 2

// listFiles lists root and state, without what comes and goes by design: caches, and
// the trash, which TestRemovedFilesFreeTheirSpace is about.
func listFiles(t *testing.T, dir string) files {
	t.Helper()
	found := files{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went while we were looking
		}
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{"root/cache", "root/network/cache", "root/images/trash"}, filepath.Dir(relative)) {
			return filepath.SkipDir
		}
		if filepath.Dir(relative) == journal {
			return nil // leaks counts them
		}
		if d.Name() == "files.mtree" && strings.HasPrefix(relative, "root/images/layers/") {
			return nil // a sweep lists a layer's files at its leisure
		}
		if relative == "root/images/listing" || relative == "root/images/locks/flush" {
			return nil // the last list of images is kept when somebody asked for it; what was pulled is made durable in the background
		}
		found[relative] = d.Type()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// leaks describes everything of the node that is still on the machine, one a line.
func (n *node) leaks() []string {
	var found []string
	for path := range listFiles(n.t, n.dir) {
		if _, ok := n.before[path]; !ok {
			found = append(found, "file "+path)
		}
	}
	if logs, _ := filepath.Glob(filepath.Join(n.dir, journal, "*")); len(logs) > journalKept {
		found = append(found, fmt.Sprintf("journals %q", logs))
	}
	found = append(found, n.leftProcesses()...)
	found = append(found, n.leftMounts()...)
	found = append(found, n.leftGroups()...)
	return append(found, n.leftLinks()...)
}

// checkNothingLeft waits until the node is as it was; what goes on in the background
// has a moment to end.
func (n *node) checkNothingLeft() {
	n.t.Helper()
	if n.t.Failed() {
		return // what is left is no news
	}
	eventually(n.t, func() string {
		if left := n.leaks(); len(left) > 0 {
			slices.Sort(left)
			return "left behind:\n" + strings.Join(left, "\n")
		}
		return ""
	})
}

// clear removes what outlives containers by design, and after a failed test what
// must not outlive the test.
func (n *node) clear() {
	for _, pid := range n.processes() {
		_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
	}
	for _, dir := range n.groups() {
		_ = unix.Rmdir(dir) // a busy one was reported
	}
	n.removeBridge()
}

// leftProcesses are processes that have to do with the node.
func (n *node) leftProcesses() []string {
	var found []string
	for _, pid := range n.processes() {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		found = append(found, fmt.Sprintf("process %d %q", pid, strings.ReplaceAll(string(line), "\x00", " ")))
	}
	return found
}

// processes finds them by command line, working directory, open files and group.
func (n *node) processes() []int {
	var found []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscan(e.Name(), &pid); err != nil || pid == os.Getpid() {
			continue
		}
		if d := n.daemon; d != nil && pid == d.cmd.Process.Pid {
			continue // ends with the test
		}
		if n.owns(pid) {
			found = append(found, pid)
		}
	}
	return found
}

func (n *node) owns(pid int) bool {
	dir := fmt.Sprintf("/proc/%d/", pid)
	line, _ := os.ReadFile(dir + "cmdline")
	if len(line) == 0 || n.daemon != nil && isSpare(line) {
		return false // a zombie, a thread of the kernel, or one that ends with the daemon
	}
	group, _ := os.ReadFile(dir + "cgroup")
	if strings.Contains(string(line), n.dir) || strings.Contains(string(group), n.parent+"/") {
		return true
	}
	links, _ := filepath.Glob(dir + "fd/*")
	for _, l := range append(links, dir+"cwd") {
		if target, err := os.Readlink(l); err == nil && strings.HasPrefix(target, n.dir+"/") {
			return true
		}
	}
	return false
}

// isSpare says whether a command line is that of a monitor which a daemon keeps for
// containers to come.
func isSpare(line []byte) bool {
	return bytes.HasSuffix(line, append(bytes.Repeat([]byte{wire.LateFill}, wire.LateRoom), 0))
}

func (n *node) leftMounts() []string {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		n.t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, n.dir+"/") {
			found = append(found, "mount "+strings.TrimSpace(line))
		}
	}
	return found
}

func (n *node) leftGroups() []string {
	var found []string
	for _, dir := range n.groups() {
		// The parent, and groups of device rules that containers share, stay.
		if !slices.Contains(n.keptGroups, dir) {
			found = append(found, "control group "+dir)
		}
	}
	return found
}

// groups are control groups below the node's parent, in every hierarchy, the deepest
// first.
func (n *node) groups() []string {
	var found []string
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		parents, _ := filepath.Glob(pattern + n.parent)
		for _, p := range parents {
			_ = filepath.WalkDir(p, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					found = append(found, path)
				}
				return nil
			})
		}
	}
	slices.SortFunc(found, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(found)
}

// bridgeName is the node's bridge, or "".
func (n *node) bridgeName() string {
	text, err := os.ReadFile(filepath.Join(n.dir, "state", "network", "berth.conflist"))
	if err != nil {
		return ""
	}
	var list struct {
		Plugins []struct {
			Bridge string `json:"bridge"`
		} `json:"plugins"`
	}
	if err := json.Unmarshal(text, &list); err != nil || len(list.Plugins) == 0 {
		n.t.Errorf("berth.conflist: %v\n%s", err, text)
		return ""
	}
	return list.Plugins[0].Bridge
}

// leftLinks are interfaces on the node's bridge.
func (n *node) leftLinks() []string {
	name := n.bridgeName()
	if name == "" {
		return nil
	}
	ports, _ := filepath.Glob("/sys/class/net/" + name + "/brif/*")
	var found []string
	for _, p := range ports {
		found = append(found, "interface "+filepath.Base(p))
	}
	return found
}

// removeBridge removes the bridge of the node and what the firewall knows of it,
// which stay for the next container by design, the way a person would.
func (n *node) removeBridge() {
	name := n.bridgeName()
	if name == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if out, err := n.command(ctx, "system", "check", "--repair").CombinedOutput(); err != nil {
		n.t.Errorf("berth system check --repair: %v\n%s", err, out)
	}
	if _, err := os.Stat("/sys/class/net/" + name); err == nil {
		n.t.Errorf("bridge %s is left behind", name)
		_ = exec.CommandContext(ctx, "ip", "link", "del", name).Run() // reported
	}
	rules, err := exec.CommandContext(ctx, "nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		n.t.Errorf("nft list ruleset: %v\n%s", err, rules)
	}
	if strings.Contains(string(rules), name) {
		n.t.Errorf("rules of bridge %s are left behind", name)
	}
}
