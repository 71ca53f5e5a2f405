// Package launch compiles launch information into programs of system calls.
//
// [Compile] turns the merged contributions of the isolators and a resolved
// process into a [Program] that makes a container; [CompileExec] into one that
// joins a running container. Both are pure: they open nothing. What the program
// needs from the host comes in as descriptors, and [Program.Inputs] says which,
// in order; containerizer/launcher opens them. The program is executed by
// containerizer/launch/interp inside berth-monitor.
//
// The order of a launch is the order of the functions in compile.go:
//
//	namespaces, cgroups        join and make; wait for the id maps
//	mounts                     the root filesystem first, as root of the process, then
//	                           the rest: sources are descriptors, targets are resolved
//	                           by the kernel below the new root, never by string
//	devices, console, paths    nodes, /dev/console, masked and read-only paths; then
//	                           pivot_root, and the host's file tree is gone
//	barrier                    wait for isolators that act on the process
//	identity, security         hostname, sysctls, limits, user, capabilities, seccomp
//	execve                     along PATH
//
// Main invariant: once the process has its root nothing of the host can be reached by a path,
// and before execve every descriptor but 0, 1 and 2 is closed.
//
// The package leaves to others: names of users (containerizer/launcher resolves
// them in the root filesystem), seccomp profiles (containerizer/launch/seccomp
// compiles them to filters), and everything about images.
package launch
