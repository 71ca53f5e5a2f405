package cgroup

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// controller is a kernel controller by its version 1 name; version 2 calls blkio
// "io", and has freezer, devices and cpuacct without controllers of that name.
type controller string

const (
	freezer   controller = "freezer"
	cpu       controller = "cpu"
	cpuacct   controller = "cpuacct"
	cpuset    controller = "cpuset"
	memory    controller = "memory"
	pids      controller = "pids"
	blkio     controller = "blkio"
	devices   controller = "devices"
	hugetlb   controller = "hugetlb"
	netCls    controller = "net_cls"
	netPrio   controller = "net_prio"
	perfEvent controller = "perf_event"
	rdma      controller = "rdma"
	misc      controller = "misc"
)

// onRequest controllers have nothing to account and cost a directory: on version
// 1 a container gets a group there only when it asks for a limit of theirs, or
// configuration names them.
func (c controller) onRequest() bool {
	return slices.Contains([]controller{netCls, netPrio, perfEvent, rdma, misc}, c)
}

// setting is the name that configuration enables c by.
func (c controller) setting() string {
	switch c {
	case memory:
		return "cgroups/mem"
	case cpuacct:
		return "cgroups/cpu"
	default:
		return "cgroups/" + string(c)
	}
}

// hierarchy is one mounted tree of groups.
type hierarchy struct {
	dir         string // its root
	controllers []controller
	onRequest   bool
}

func (h *hierarchy) has(c controller) bool { return slices.Contains(h.controllers, c) }

// node is what the machine has: one hierarchy with version 2, one for each
// controller or pair of them with version 1, the freezer's first.
type node struct {
	unified     bool
	hierarchies []hierarchy
	// toEnable is what subtree_control must list (version 2).
	toEnable []string
}

// of returns the hierarchy of c, nil when the node or configuration lacks it.
func (n *node) of(c controller) *hierarchy {
	for i := range n.hierarchies {
		if n.hierarchies[i].has(c) {
			return &n.hierarchies[i]
		}
	}
	return nil
}

// missing says why c cannot be used for field of a spec.
func (n *node) missing(c controller, field string) error {
	return fmt.Errorf("%s needs the cgroup controller %q, which this node does not have or the isolation setting leaves out (%s): %w",
		field, c, c.setting(), containerizer.ErrUnsupported)
}

// detect finds the hierarchies below root by asking each file system there what
// it is; the mount table is not read.
func detect(root string) (node, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(root, &fs); err != nil {
		return node{}, fmt.Errorf("look for control groups in %q: %w", root, err)
	}
	if fs.Type == unix.CGROUP2_SUPER_MAGIC {
		return detectUnified(root)
	}
	return detectLegacy(root)
}

func detectUnified(root string) (node, error) {
	b, err := readFile(path.Join(root, "cgroup.controllers"))
	if err != nil {
		return node{}, err
	}
	// The three need no controller: a file of every group, an eBPF program, and a
	// part of cpu.stat.
	h := hierarchy{dir: root, controllers: []controller{freezer, devices, cpuacct}}
	for name := range strings.FieldsSeq(b) {
		if name == "io" {
			name = string(blkio)
		}
		h.controllers = append(h.controllers, controller(name))
	}
	return node{unified: true, hierarchies: []hierarchy{h}}, nil
}

func detectLegacy(root string) (node, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return node{}, fmt.Errorf("look for control groups: %w", err)
	}
	var n node
	for _, e := range entries {
		if !e.IsDir() { // the links cpu -> cpu,cpuacct among them
			continue
		}
		h := hierarchy{dir: path.Join(root, e.Name())}
		for name := range strings.SplitSeq(e.Name(), ",") {
			if c := controller(name); knownController(c) {
				h.controllers = append(h.controllers, c)
			}
		}
		var fs unix.Statfs_t
		if len(h.controllers) == 0 || unix.Statfs(h.dir, &fs) != nil || fs.Type != unix.CGROUP_SUPER_MAGIC {
			continue
		}
		n.hierarchies = append(n.hierarchies, h)
	}
	if n.of(freezer) == nil {
		return node{}, fmt.Errorf("there is neither a cgroup2 mount on %q nor a version 1 freezer below it; mount one, as systemd or cgroupfs-mount do: %w", root, containerizer.ErrUnsupported)
	}
	return n, nil
}

func knownController(c controller) bool {
	switch c {
	case freezer, cpu, cpuacct, cpuset, memory, pids, blkio, devices, hugetlb, netCls, netPrio, perfEvent, rdma, misc:
		return true
	}
	return false
}

// enable restricts n to the controllers that configuration asks for; nil means
// all.
func (n *node) enable(asked []controller) error {
	for _, c := range asked {
		if n.of(c) == nil && (!n.unified || !legacyOnly(c)) {
			return fmt.Errorf("isolator %q: the kernel of this node does not have the cgroup controller %q (see /proc/cgroups): %w", c.setting(), c, containerizer.ErrUnsupported)
		}
	}
	var kept []hierarchy
	for _, h := range n.hierarchies {
		h.onRequest = asked == nil && !slices.ContainsFunc(h.controllers, func(c controller) bool { return !c.onRequest() })
		if asked != nil {
			h.controllers = slices.DeleteFunc(slices.Clone(h.controllers), func(c controller) bool {
				return c != freezer && !slices.Contains(asked, c)
			})
		}
		if len(h.controllers) > 0 {
			kept = append(kept, h)
		}
	}
	// The freezer comes first: its directory is the one that says whose a group is.
	first := slices.IndexFunc(kept, func(h hierarchy) bool { return h.has(freezer) })
	kept[0], kept[first] = kept[first], kept[0]
	n.hierarchies = kept
	if n.unified {
		n.toEnable = unifiedNames(kept[0].controllers)
	}
	return nil
}

// legacyOnly controllers were given up in version 2: enabling them there enables
// nothing.
func legacyOnly(c controller) bool { return c == netCls || c == netPrio || c == perfEvent }

// unifiedNames are the names of controllers in cgroup.subtree_control.
func unifiedNames(controllers []controller) []string {
	var names []string
	for _, c := range controllers {
		switch c {
		case freezer, devices, cpuacct, perfEvent, netCls, netPrio:
			// Not enabled by name: built in, or (perf_event) implicit.
		case blkio:
			names = append(names, "io")
		default: // also what later kernels bring
			names = append(names, string(c))
		}
	}
	slices.Sort(names)
	return names
}
