// Package nat translates addresses between containers and the rest of the world
// with nftables, spoken to over netlink: no program is run.
//
// One table, "inet berth", serves all networks and all state directories of a
// network namespace. Its rules never change; what changes are elements of its
// sets (bridges) and maps (published ports), so that a launch costs one
// transaction and the kernel's work per packet does not grow with containers:
//
//	raw        from a bridge to 127.0.0.0/8 is dropped (route_localnet opens it)
//	dstnat     to a local address and published port -> the container
//	forward    to an isolated bridge: only replies and published ports
//	srcnat     from a masqueraded bridge to elsewhere, from the host's loopback to
//	           a bridge, and between containers by way of a published port
//
// It leaves to others which ports are whose (internal/hostport).
//
// Main invariant: a change is one nftables transaction; it happens as a whole or
// not at all.
package nat
