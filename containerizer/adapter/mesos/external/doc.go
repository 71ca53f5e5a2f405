// Package external is an external containerizer for Mesos 0.19 to 1.0: a program that the
// agent runs for every call, with a message on its standard input and another on its
// standard output, each in a frame of its own.
//
// Nothing outlives a call but containers, which are ordinary ones of the node: the agent
// kills whoever waits. A container is a root; it is removed once it has ended, and how it
// ended is remembered by the engine for a while.
package external
