// Package inputs opens what a launch program needs from the host: mounts detached
// from the host's mount table, control groups, namespaces.
//
// Everything is opened with the privilege of the host's root, before the
// container's namespaces exist, and is referred to by descriptor from then on:
// nobody can exchange a path in between, nothing appears in the host's mount
// table, and when all descriptors are closed, by whatever death, the mounts are
// gone. Errors name the path and what is wrong with it.
//
// Needs mount_setattr(2) (kernel 5.12); idmapped layers of an overlay 5.19.
package inputs
