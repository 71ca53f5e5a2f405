// Package ipam hands out container addresses from the subnets of a network.
//
// The store is the one of the CNI plug-in host-local (a file called as the
// address, holding the container's CNI id and the interface; last_reserved_ip.N;
// a flock on the file lock), so that either can release what the other reserved.
// Addresses are given in turn: one that was just released comes last, after the
// kernel has taken down the namespace that still answers for it.
//
// Main invariant: an address belongs to the owner in its file, and to nobody
// without a file; creation is exclusive.
package ipam
