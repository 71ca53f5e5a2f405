package kubelet_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// hierarchies are the control group hierarchies of the machine.
func hierarchies() []string {
	controllers, _ := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs") // the pattern is ours
	var found []string
	for _, c := range controllers {
		found = append(found, filepath.Dir(c))
	}
	return found
}

// makeGroups makes the group below which the kubelet and berthd make theirs.
func (n *node) makeGroups() {
	n.Helper()
	for _, h := range hierarchies() {
		group := filepath.Join(h, n.parent)
		if err := os.Mkdir(group, 0o755); err != nil {
			n.Fatal(err)
		}
		for _, name := range []string{"cpuset.cpus", "cpuset.mems"} { // empty in a new group of version 1
			value, err := os.ReadFile(filepath.Join(h, name))
			if err != nil {
				continue
			}
			if err := os.WriteFile(filepath.Join(group, name), value, 0o644); err != nil { //nolint:gosec // the kernel's
				n.Fatal(err)
			}
		}
	}
}

// groups are the control groups of the node, in all hierarchies, the deepest first.
func (n *node) groups() []string {
	var found []string
	for _, h := range hierarchies() {
		_ = filepath.WalkDir(filepath.Join(h, n.parent), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				found = append(found, path)
			}
			return nil
		})
	}
	slices.SortFunc(found, func(a, b string) int { return len(b) - len(a) })
	return found
}

// clear takes everything away, also after a failure.
func (n *node) clear() {
	if n.Failed() {
		for _, p := range []*program{n.kubelet, n.berthd} {
			if p != nil {
				n.Logf("the end of %s:\n%s", p.log, p.tail())
			}
		}
	}
	if n.kubelet != nil {
		n.kubelet.end(syscall.SIGTERM)
	}
	if n.cri.RuntimeServiceClient != nil && n.Failed() {
		n.removeAll(context.WithoutCancel(n.Context()))
	}
	if n.berthd != nil {
		n.berthd.end(syscall.SIGTERM)
	}
	for _, line := range n.leftMounts() {
		_ = unix.Unmount(strings.Fields(line)[4], unix.MNT_DETACH) // reported where it is a mistake
	}
	for _, g := range n.groups() {
		_ = unix.Rmdir(g) // see above
	}
	_ = unix.Unmount(n.dir, unix.MNT_DETACH) // the mount on itself
	if os.Getenv("BERTH_KUBELET_KEEP") != "" {
		n.Logf("files are in %s", n.dir)
		return
	}
	if err := os.RemoveAll(n.dir); err != nil {
		n.Error(err)
	}
}

// removeAll removes pods as a node is drained without a kubelet.
func (n *node) removeAll(ctx context.Context) {
	pods, err := n.cri.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		n.Log(err)
		return
	}
	for _, p := range pods.GetItems() {
		_, _ = n.cri.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: p.GetId()}) // the next call tells
		if _, err := n.cri.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: p.GetId()}); err != nil {
			n.Log(err)
		}
	}
}

// left describes what there is of pods on the machine, one thing a line.
func (n *node) left() []string {
	var found []string
	pods, err := n.cri.ListPodSandbox(n.Context(), &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return []string{err.Error()}
	}
	for _, p := range pods.GetItems() {
		found = append(found, "pod sandbox "+p.GetMetadata().GetName()+" "+p.GetState().String())
	}
	containers, err := n.cri.ListContainers(n.Context(), &runtimeapi.ListContainersRequest{})
	if err != nil {
		return []string{err.Error()}
	}
	for _, c := range containers.GetContainers() {
		found = append(found, "container "+c.GetMetadata().GetName()+" "+c.GetState().String())
	}
	for _, pattern := range []string{"kubelet/pods/*", "root/records/*", "root/images/containers/*", "state/containers/*", "state/owed/*", "logs/*"} {
		paths, _ := filepath.Glob(n.path(pattern)) // the pattern is ours
		for _, p := range paths {
			found = append(found, "file "+p)
		}
	}
	for _, m := range n.leftMounts() {
		found = append(found, "mount "+m)
	}
	for _, g := range n.groups() {
		if strings.Contains(filepath.Base(g), "pod") && filepath.Base(g) != "kubepods" || len(filepath.Base(g)) == 64 {
			found = append(found, "control group "+g)
		}
	}
	return append(append(found, n.leftProcesses()...), leftLinks()...)
}

// leftMounts are those below the node's folder, but for the folder itself.
func (n *node) leftMounts() []string {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		n.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, n.dir+"/") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// leftProcesses are those that have to do with the node, besides the two programs.
func (n *node) leftProcesses() []string {
	var found []string
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscan(e.Name(), &pid); err != nil || pid == os.Getpid() || pid == n.berthd.cmd.Process.Pid || pid == n.kubelet.cmd.Process.Pid {
			continue
		}
		line, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		group, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cgroup"))
		if bytes.HasSuffix(line, append(bytes.Repeat([]byte{wire.LateFill}, wire.LateRoom), 0)) {
			continue // a monitor that berthd keeps for containers to come
		}
		if len(line) > 0 && (strings.Contains(string(line), n.dir) || strings.Contains(string(group), n.parent+"/")) {
			found = append(found, fmt.Sprintf("process %d %q", pid, strings.ReplaceAll(string(line), "\x00", " ")))
		}
	}
	return found
}

// leftLinks are the ends of pods' cables, in the network namespace of the tests.
func leftLinks() []string {
	links, err := netlink.LinkList()
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for _, l := range links {
		if l.Type() == "veth" {
			found = append(found, "interface "+l.Attrs().Name)
		}
	}
	return found
}
