// Package filesystem gives a container its file tree: the root filesystem, a mount
// namespace, and the mounts that every container has.
//
// The isolator is called filesystem/linux, as in Mesos. Volumes are those of
// isolators/volume; a mount of the description on the path of a default mount
// takes its place. The defaults are those of the runtime specification
// (runtime-linux.md, "Default Filesystems") and of Docker:
//
//	/proc  /dev (tmpfs)  /dev/pts  /dev/shm  /dev/mqueue  /sys (read-only)  /sys/fs/cgroup (read-only)
//
// In a shared namespace the matching filesystem is the host's or the parent's:
// /dev/shm and /dev/mqueue follow the ipc namespace, /sys the network namespace.
//
// A child without a root filesystem begins in a copy of its parent's mount namespace, and
// gets of the defaults those of its new namespaces: /proc with one for processes, /dev/shm and
// /dev/mqueue with one for messages, /sys and /sys/fs/cgroup with one for the network.
//
// Settings: Spec.ReadonlyRootfs, Spec.RootfsPropagation and [Options]. Nothing is acquired: every mount is made in
// the container's own mount namespace and ends with it.
package filesystem
