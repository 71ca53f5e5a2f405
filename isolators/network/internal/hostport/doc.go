// Package hostport decides which container has which port of the host.
//
// One file a port in a directory on the state filesystem, changed under a lock
// by any number of processes. What the ports are translated to is kept in the
// file too, so that the rules can be made again after somebody flushed them.
//
// Main invariant: no two files reserve overlapping ports, and a port is free for
// others only after its rules are gone.
package hostport
