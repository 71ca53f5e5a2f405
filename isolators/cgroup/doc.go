// Package cgroup isolates containers by control groups, versions 1 and 2: it
// makes a group for each container, sets its limits, says what it uses, stops
// and kills everything in it, and tells an OOM kill from an ordinary death.
//
// One [Isolator] serves all the names cgroups/* of the configuration, because
// what they control is one thing with one life: see [Names]. Version 2 is used
// where /sys/fs/cgroup is a cgroup2 mount, version 1 where it holds one mount a
// controller, as on "hybrid" hosts. docs/cgroups.md has the layout of the groups
// and how every limit maps to the files of both versions.
//
// No process is ever attached by its pid: that takes a lock of the kernel that
// costs an RCU grace period (4 to 20 ms) on an idle node. Prepare makes the
// groups and names them in LaunchInfo.Cgroup; the process is cloned into its
// group (version 2), or moves itself by writing 0 to tasks (version 1). An exec
// session uses the same attachment.
//
// Kept on the node: the directories, each recorded in the container's ledger
// before it is made, and marked with the extended attribute trusted.berth.owner,
// which tells Recover whose they are. Nothing is kept in memory but descriptors of
// files that Usage reads again and again ([statistics]).
//
// Main invariant: a group below a parent that berth did not make is the only
// thing made and removed there; foreign directories are never touched.
package cgroup
