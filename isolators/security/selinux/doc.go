// Package selinux labels a container for SELinux: its process, the filesystems
// mounted for it, and host directories that it is to share.
//
// Settings: Options. Of Spec.Security: SELinux (any of user, role, type, level, or
// disable) and Privileged, whose process runs as spc_t. Of Spec.Mounts: Relabel,
// "shared" or "private" (docker run -v …:z and :Z).
//
// What the specification leaves out comes from the policy's container contexts
// (/etc/selinux/TYPE/contexts/lxc_contexts). Without a level a root container gets
// one of its own, s0:cX,cY, so that containers cannot touch each other's files; its
// children share it. The pair is reserved by a symbolic link in the directory given to
// New, recorded in the ledger first, and freed by Cleanup.
//
// Without SELinux in the kernel an empty description is fine, labels are refused,
// and Relabel is checked and otherwise ignored, as it is by Docker: there are no
// labels to set.
package selinux
