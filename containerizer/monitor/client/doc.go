// Package client starts and talks to berth-monitor.
//
// Start spawns a monitor and returns at once: requests queue on the socket while
// the monitor comes up, so its start overlaps with the caller's own preparation.
// Dial finds the monitor of a container that runs. Whoever has neither a monitor
// nor needs one reads package record.
//
// A Client is safe for concurrent use; requests do not wait for each other. One
// goroutine receives and never blocks on a session: what a session's writer has
// not taken waits in memory, bounded by the window of the protocol. When the
// context of a request ends, the request may have been carried out all the same.
//
// Errors wrap the classes of containerizer: ErrNotFound when there is no monitor,
// or no such container in it; ErrUnavailable when the connection broke, which
// means that the monitor has ended. A failed operation of a launch program is a
// *ProgramError.
package client
