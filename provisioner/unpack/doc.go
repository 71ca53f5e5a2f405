// Package unpack turns the tar stream of one image layer into a directory in
// overlayfs form, in a confined child process.
//
// The parent (this package) starts the child, feeds it the compressed bytes and
// reads its result. The child (package apply) decompresses, hashes and unpacks.
// It runs in mount, network, IPC and UTS namespaces of its own with the layer's
// directory as its root, a handful of capabilities and a seccomp filter: a bug in
// a parser is a bug in an empty room.
//
// Setting attributes of the "trusted" namespace needs CAP_SYS_ADMIN, which the
// child does not have. It reports which directories need one, and the parent sets
// them by descriptor.
//
// Main invariant: what Run leaves in the directory is only trusted by the caller
// after it has compared the diffID.
package unpack
