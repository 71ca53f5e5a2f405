package cgroup

import (
	"fmt"
	"path"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// Kinds of the ledger. A name is the path of a group below the root of the
// hierarchies.
const (
	kindGroup   = "cgroup"         // in every hierarchy
	kindDevices = "cgroup-devices" // its place in the version 1 devices hierarchy, when that is another one
	kindUnit    = "systemd-unit"   // a scope or slice
)

// leafName is the group within a container's group that its processes are in
// once it has children: with version 2, a group that hands controllers down holds
// no processes itself. Ids have no dots, so no child can be called so.
const leafName = "init.leaf"

// group is where a container's control groups are, as paths below the roots of
// the hierarchies.
type group struct {
	path string
	// devices is the place in the version 1 devices hierarchy, "" for path.
	devices string
}

// in returns the group's directory in h.
func (g group) in(h *hierarchy) string {
	if g.devices != "" && len(h.controllers) == 1 && h.controllers[0] == devices {
		return h.dir + g.devices
	}
	return h.dir + g.path
}

// dirName is the name of a group for the last element of an id. The few names
// that version 1 uses for control files get a suffix that no id can have.
func dirName(element string) string {
	switch element {
	case "tasks", "notify_on_release", "release_agent":
		return element + ".container"
	}
	return element
}

// checkGroupPath checks a path that users give for a group.
func checkGroupPath(p string) error {
	switch {
	case !strings.HasPrefix(p, "/"):
		return fmt.Errorf("cgroup parent %q is not absolute (the cgroupfs driver takes a path such as /kubepods/burstable): %w", p, containerizer.ErrInvalid)
	case strings.ContainsAny(p, "\n\x00"):
		return fmt.Errorf("cgroup parent %q holds a control character: %w", p, containerizer.ErrInvalid)
	}
	for e := range strings.SplitSeq(p, "/") {
		if e == ".." || len(e) > 255 {
			return fmt.Errorf("cgroup parent %q has the element %q: %w", p, e, containerizer.ErrInvalid)
		}
	}
	return nil
}

// place decides where c's group goes: below the parent that its spec names, else
// below its parent container's group, else below the default parent. The base
// name is the id's, because the kubelet and cAdvisor find containers by it.
func (i *Isolator) place(c *containerizer.Container) (group, error) {
	name := dirName(c.ID.Base())
	switch {
	case c.Spec != nil && c.Spec.CgroupParent != "":
		if err := checkGroupPath(c.Spec.CgroupParent); err != nil {
			return group{}, err
		}
		return group{path: path.Join(c.Spec.CgroupParent, name)}, nil
	case c.Parent != nil:
		g, err := i.find(c.Parent)
		if err != nil {
			return group{}, err
		}
		g.path += "/" + name
		if g.devices != "" {
			g.devices += "/" + name
		}
		return g, nil
	}
	return group{path: path.Join(i.parent, name)}, nil
}

// find returns the group of a container that was prepared: what its ledger says,
// or, when that is another owner's, its launch information; its parent's if it
// shares that.
func (i *Isolator) find(c *containerizer.Container) (group, error) {
	if c.Spec != nil && c.Spec.ShareCgroup && c.Parent != nil {
		return i.find(c.Parent)
	}
	if g, ok := held(c); ok {
		return g, nil
	}
	if c.Launch != nil && c.Launch.Cgroup != nil {
		if g, ok := i.attached(c.Launch.Cgroup); ok {
			return g, nil
		}
	}
	return group{}, fmt.Errorf("container %q has no control group; it is not prepared: %w", c.ID, containerizer.ErrFailedPrecondition)
}

// attached is the group that a is about.
func (i *Isolator) attached(a *containerizer.CgroupAttachment) (g group, ok bool) {
	first := &i.node.hierarchies[0]
	if i.node.unified {
		g.path, ok = strings.CutPrefix(strings.TrimSuffix(a.Unified, "/"+leafName), first.dir)
		return g, ok && g.path != ""
	}
	for _, dir := range a.Legacy {
		if p, below := strings.CutPrefix(dir, first.dir+"/"); below {
			g.path, ok = "/"+p, true
		}
		if h := i.node.of(devices); h != nil && len(h.controllers) == 1 {
			if p, below := strings.CutPrefix(dir, h.dir+"/"); below {
				g.devices = "/" + p
			}
		}
	}
	if g.devices == g.path {
		g.devices = ""
	}
	return g, ok
}

// held returns the group that c's ledger lists.
func held(c *containerizer.Container) (g group, ok bool) {
	if c.Ledger == nil {
		return group{}, false
	}
	names := c.Ledger.Held(kindGroup)
	if len(names) == 0 {
		return group{}, false
	}
	g.path = names[len(names)-1]
	if d := c.Ledger.Held(kindDevices); len(d) > 0 {
		g.devices = d[len(d)-1]
	}
	return g, true
}

// own returns the group that belongs to c alone, and an error that says why for
// a container without.
func (i *Isolator) own(c *containerizer.Container, what string) (group, error) {
	if c.Spec != nil && c.Spec.ShareCgroup {
		return group{}, fmt.Errorf("%s: container %q shares the control group of its parent: %w", what, c.ID, containerizer.ErrUnsupported)
	}
	g, err := i.find(c)
	if err != nil {
		return group{}, fmt.Errorf("%s: %w", what, err)
	}
	return g, nil
}

// attachment is where processes of group g start.
func (i *Isolator) attachment(g group) *containerizer.CgroupAttachment {
	if i.node.unified {
		dir := g.in(&i.node.hierarchies[0])
		if leaf := dir + "/" + leafName; exists(leaf) {
			dir = leaf
		}
		return &containerizer.CgroupAttachment{Unified: dir}
	}
	a := &containerizer.CgroupAttachment{Legacy: make([]string, 0, len(i.node.hierarchies))}
	for n := range i.node.hierarchies {
		h := &i.node.hierarchies[n]
		if dir := g.in(h); !h.onRequest || exists(dir) {
			a.Legacy = append(a.Legacy, dir)
		}
	}
	return a
}
