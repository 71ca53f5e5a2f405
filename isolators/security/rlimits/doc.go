// Package rlimits sets the resource limits of setrlimit(2) for a container's
// process.
//
// Settings: Options.Default, limits of containers that do not set them. Of
// Spec.Process: Rlimits. What neither names is inherited from berth.
//
// Needs: raising a hard limit above berth's own takes CAP_SYS_RESOURCE in the
// host's user namespace; without it such a limit is refused before anything is
// made. Nothing is kept on the node.
package rlimits
