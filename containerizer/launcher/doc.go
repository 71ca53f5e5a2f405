// Package launcher is the native implementation of containerizer.Launcher: it
// compiles launch information to a program (containerizer/launch), opens what the
// program needs (containerizer/launch/inputs), and has the container's
// berth-monitor execute it (containerizer/monitor/client).
//
// What is resolved here, because it needs the root filesystem or the kernel of
// this node: users and groups, the seccomp filter, capabilities, the environment
// that depends on them.
//
// Nothing is kept in memory that another process could not find again: a monitor is
// found by its socket, and what became of a process by the records that the monitor
// writes, both in Container.Dir. The directory of a child is
// <directory of its parent>/children/<element>; the monitor is the root's.
//
// A container whose Spec.Runtime has a name is made by an OCI runtime from a bundle
// (foreign.go), under the same monitor.
//
// OCI hooks are run here (hooks.go), because only who launches knows when: the program
// waits for those that precede it, at its barrier and before its execve, and Cleanup
// runs those that follow. A failed poststart hook ends the container, as version 1.3
// of the runtime specification has it.
package launcher
