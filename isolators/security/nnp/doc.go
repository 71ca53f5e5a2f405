// Package nnp sets no_new_privs for a container's process, so that execve never
// gives it more privilege: set-user-id bits and file capabilities have no effect
// (Documentation/userspace-api/no_new_privs.rst).
//
// Settings: Options.Always. Of Spec.Security: NoNewPrivileges; a privileged
// container gets it only when it asks. Needs nothing of the node and keeps nothing
// there.
package nnp
