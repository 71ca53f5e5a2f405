package cgroup

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// Driver says who makes the groups of containers.
type Driver string

const (
	// DriverCgroupfs makes directories itself.
	DriverCgroupfs Driver = "cgroupfs"
	// DriverSystemd asks systemd for a scope a container (version 2 only).
	DriverSystemd Driver = "systemd"
)

const (
	// DefaultRoot is where the kernel's hierarchies are mounted.
	DefaultRoot = "/sys/fs/cgroup"
	// DefaultParent is the group that root containers are made in (cgroupfs).
	DefaultParent = "/berth"
	// DefaultSlice is its counterpart with the systemd driver.
	DefaultSlice = "berth.slice"
)

// Options configure an [Isolator]. The zero value is the cgroupfs driver with
// every controller that the node has.
type Options struct {
	// Isolation lists the controllers by their names in configuration, see [Names];
	// empty is "cgroups/all". The freezer is always used.
	Isolation []string
	// Driver is DriverCgroupfs when empty.
	Driver Driver
	// Units is how the systemd driver talks to systemd; required by it.
	Units UnitManager
	// Parent is the group for containers that name none: an absolute path below the
	// root of the hierarchies, or a slice with the systemd driver. Empty is
	// DefaultParent or DefaultSlice.
	Parent string
	// Root is where the hierarchies are mounted; empty is DefaultRoot.
	Root string
	// Owner tells the groups of this state directory from those of another one that
	// uses the same Parent; Recover releases only what bears it.
	Owner string
	// OrphanAge is how old a group without container must be for Recover to release
	// it, so that a container that another process is just preparing is left alone;
	// 0 is one minute.
	OrphanAge time.Duration
	// EndOnOOM makes an OOM kill a limitation that ends the container, as in Mesos;
	// otherwise it is only reported, as in Docker and Kubernetes.
	EndOnOOM bool
}

// Isolator gives each container a control group with its limits. It has no state
// but what it found out about the node, and files that it reads again and again; it is
// safe for concurrent use.
type Isolator struct {
	node      node
	parent    string
	owner     string
	orphanAge time.Duration
	endOnOOM  bool
	units     UnitManager // nil with the cgroupfs driver
	launching keepers

	statistics statistics
}

var (
	_ containerizer.Isolator        = (*Isolator)(nil)
	_ containerizer.ProcessIsolator = (*Isolator)(nil)
	_ containerizer.Updater         = (*Isolator)(nil)
	_ containerizer.UsageReporter   = (*Isolator)(nil)
	_ containerizer.Freezer         = (*Isolator)(nil)
	_ containerizer.Watcher         = (*Isolator)(nil)
	_ containerizer.ExitReporter    = (*Isolator)(nil)
	_ containerizer.Recoverer       = (*Isolator)(nil)
)

// New finds the hierarchies of the node and returns an isolator over them.
// Errors: ErrInvalid for options that make no sense, ErrUnsupported for what
// this node does not have.
func New(o Options) (*Isolator, error) {
	enabled, err := parseIsolation(o.Isolation)
	if err != nil {
		return nil, err
	}
	root := o.Root
	if root == "" {
		root = DefaultRoot
	}
	n, err := detect(root)
	if err != nil {
		return nil, err
	}
	if err := n.enable(enabled); err != nil {
		return nil, err
	}
	return newIsolator(o, n)
}

func newIsolator(o Options, n node) (*Isolator, error) {
	i := &Isolator{
		node:      n,
		parent:    o.Parent,
		owner:     o.Owner,
		orphanAge: o.OrphanAge,
		endOnOOM:  o.EndOnOOM,
	}
	if i.orphanAge == 0 {
		i.orphanAge = time.Minute
	}
	switch o.Driver {
	case DriverCgroupfs, "":
		if i.parent == "" {
			i.parent = DefaultParent
		}
		if err := checkGroupPath(i.parent); err != nil {
			return nil, fmt.Errorf("default cgroup parent: %w", err)
		}
	case DriverSystemd:
		if !n.unified {
			return nil, fmt.Errorf("the systemd cgroup driver needs cgroup version 2 and this node has version 1; use the cgroupfs driver, or boot with systemd.unified_cgroup_hierarchy=1: %w", containerizer.ErrUnsupported)
		}
		if o.Units == nil {
			return nil, fmt.Errorf("the systemd cgroup driver has no connection to systemd: %w", containerizer.ErrInvalid)
		}
		i.units = o.Units
		if i.parent == "" {
			i.parent = DefaultSlice
		}
		if _, err := slicePath(i.parent); err != nil {
			return nil, fmt.Errorf("default cgroup parent: %w", err)
		}
	default:
		return nil, fmt.Errorf("cgroup driver %q is unknown (%q or %q): %w", o.Driver, DriverCgroupfs, DriverSystemd, containerizer.ErrInvalid)
	}
	return i, nil
}

// Name implements containerizer.Isolator: the isolator stands for every name of
// [Names].
func (i *Isolator) Name() string { return "cgroups" }

// Names lists the names that configuration knows the isolator's controllers by.
// cgroups/all stands for all that the node has.
func Names() []string {
	return []string{
		"cgroups/all", "cgroups/blkio", "cgroups/cpu", "cgroups/cpuset", "cgroups/devices", "cgroups/hugetlb", "cgroups/mem",
		"cgroups/misc", "cgroups/net_cls", "cgroups/net_prio", "cgroups/perf_event", "cgroups/pids", "cgroups/rdma",
	}
}

// parseIsolation turns names of configuration into controllers; nil stands for all
// that there are.
func parseIsolation(names []string) (asked []controller, err error) {
	for _, n := range names {
		if !slices.Contains(Names(), n) {
			return nil, unknownName(n)
		}
		switch n {
		case "cgroups/cpu":
			asked = append(asked, cpu, cpuacct)
		case "cgroups/mem":
			asked = append(asked, memory)
		default:
			asked = append(asked, controller(path.Base(n)))
		}
	}
	if slices.Contains(names, "cgroups/all") {
		return nil, nil
	}
	return asked, nil
}

func unknownName(n string) error {
	return fmt.Errorf("isolator %q is unknown, the control group isolators are %s: %w", n, strings.Join(Names(), ", "), containerizer.ErrInvalid)
}

// Isolate implements containerizer.ProcessIsolator. With the systemd driver the
// container's process is in its scope now, so that what kept the scope alive can
// go; with cgroupfs there is nothing to do.
func (i *Isolator) Isolate(_ context.Context, c *containerizer.Container, _ int) error {
	return i.launching.release(c.ID)
}
