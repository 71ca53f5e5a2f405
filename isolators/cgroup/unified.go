package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// handDown lets the children of group dir have the controllers of this node
// (cgroup.subtree_control, version 2), and for that its parents'. That dir is gone
// is no error: whoever needs it finds out. What an owner further up does not hand
// down stays missing.
func (i *Isolator) handDown(dir string) error { return ignoreGone(i.enableBelow(dir)) }

func (i *Isolator) enableBelow(dir string) error {
	root := i.node.hierarchies[0].dir
	enabled, err := readFile(dir + "/cgroup.subtree_control")
	if err != nil {
		return err
	}
	missing := without(i.node.toEnable, strings.Fields(enabled))
	if len(missing) == 0 {
		return nil
	}
	available, err := readFile(dir + "/cgroup.controllers")
	if err != nil {
		return err
	}
	if dir != root && len(without(missing, strings.Fields(available))) > 0 {
		if err := i.enableBelow(path.Dir(dir)); err != nil {
			return err
		}
		if available, err = readFile(dir + "/cgroup.controllers"); err != nil {
			return err
		}
	}
	missing = without(missing, without(missing, strings.Fields(available)))
	if len(missing) == 0 {
		return nil
	}
	request := "+" + strings.Join(missing, " +")
	if _, ours := readMark(dir); ours && !strings.HasSuffix(dir, ".slice") {
		return emptyIntoLeaf(dir, request)
	}
	err = writeFile(dir+"/cgroup.subtree_control", request)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("the control group %q has processes, so with version 2 no group below it can have limits; choose another cgroup parent, or move the processes to a group below it: %w",
			dir, containerizer.ErrFailedPrecondition)
	}
	return err
}

// without returns the elements of all that are not in some.
func without(all, some []string) []string {
	var rest []string
	for _, s := range all {
		if !slices.Contains(some, s) {
			rest = append(rest, s)
		}
	}
	return rest
}

// emptyIntoLeaf makes the leaf of a container's group, and moves the group's
// processes there, so that the group can hand controllers down: the price of the
// first child of a container with a process, paid by nobody else. Within its
// cgroup namespace the container still finds its limits at the root.
func emptyIntoLeaf(dir, request string) error {
	leaf := dir + "/" + leafName
	if err := mkdir(leaf); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	// What forks while we move leaves children behind: again, until the kernel agrees.
	for range 100 {
		list, err := readPIDs(dir + "/cgroup.procs")
		if err != nil {
			return err
		}
		for _, pid := range list {
			err := writeFile(leaf+"/cgroup.procs", strconv.Itoa(pid))
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
		if err = writeFile(dir+"/cgroup.subtree_control", request); !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	return fmt.Errorf("move the processes of %q to %q: they fork faster than they can be moved: %w", dir, leaf, containerizer.ErrUnavailable)
}

// delegate gives the root user of a container's user namespace the files that
// sub-groups are made with, if the container can write to its cgroup mount at all
// (cgroup-v2.rst, "Model of Delegation"). Limits stay ours.
func delegate(c *containerizer.Container, dir string) error {
	if c.Launch == nil || len(c.Launch.UIDMappings) == 0 || !writableCgroupMount(c.Launch.Mounts) {
		return nil
	}
	uid, ok := hostID(c.Launch.UIDMappings)
	gid, ok2 := hostID(c.Launch.GIDMappings)
	if !ok || !ok2 {
		return nil // nobody in there is root
	}
	for _, file := range []string{"", "/cgroup.procs", "/cgroup.threads", "/cgroup.subtree_control", "/memory.oom.group", "/memory.reclaim"} {
		if err := os.Lchown(dir+file, uid, gid); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("delegate the control group to user %d: %w", uid, err)
		}
	}
	return nil
}

func writableCgroupMount(mounts []specs.Mount) bool {
	for _, m := range mounts {
		if m.Type == "cgroup" || m.Type == "cgroup2" {
			return !slices.Contains(m.Options, "ro")
		}
	}
	return false
}

// hostID is what id 0 is on the host.
func hostID(mappings []specs.LinuxIDMapping) (int, bool) {
	for _, m := range mappings {
		if m.ContainerID == 0 && m.Size > 0 {
			return int(m.HostID), true
		}
	}
	return 0, false
}
