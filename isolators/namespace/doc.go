// Package namespace gives containers namespaces of their own, or lets them share
// those of another container or of the host.
//
// Isolators, one a kind, so that an operator can leave one out (the container then
// shares that namespace with the host): namespaces/network, namespaces/pid,
// namespaces/ipc, namespaces/uts, namespaces/cgroup, namespaces/time,
// namespaces/user; and linux/sysctl, which sets kernel parameters that belong to a
// namespace. The mount namespace is always private and comes with the file tree
// (isolators/filesystem).
//
// Settings: Spec.Namespaces and Spec.Sysctls. Kernel: time namespaces 5.6, the
// others before berth's minimum. Nothing is kept on disk and nothing is acquired:
// the kernel ends a namespace with its last process.
package namespace
