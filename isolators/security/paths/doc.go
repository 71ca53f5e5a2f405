// Package paths hides and protects what a container must not see or change of the
// kernel's /proc and /sys.
//
// Settings: none of its own. Of Spec.Security: MaskedPaths and ReadonlyPaths
// replace the default lists; a privileged container has neither. How a path is
// masked is the launcher's: a file becomes /dev/null, a directory an empty one, one
// that does not exist is skipped.
//
// Needs nothing of the node and keeps nothing there.
package paths
