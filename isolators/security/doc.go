// Package security holds the isolators that bound what a container's processes may
// do, one folder each:
//
//   - capabilities: "linux/capabilities", the capability sets
//   - seccomp: "linux/seccomp", the system call filter
//   - nnp: "linux/nnp", no_new_privs
//   - apparmor: "linux/apparmor", the AppArmor profile
//   - selinux: "linux/selinux", process and mount labels, relabelling of mounts
//   - rlimits: "posix/rlimits", resource limits of setrlimit(2)
//   - paths: "linux/paths", masked and read-only paths of /proc and /sys
//   - oomscore: "linux/oom_score", the OOM killer's preference
//
// All but selinux keep nothing on the node: they translate the specification into
// launch information. Order matters twice: capabilities comes after the
// namespaces and before seccomp, whose profile depends on the capabilities, and
// selinux comes after the mounts that it relabels.
//
// A specification that is wrong, or that this node cannot honour, is refused in
// Prepare; what a privileged container lifts is decided in each of them by
// Spec.Security.Privileged.
package security
