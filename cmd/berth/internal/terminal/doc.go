// Package terminal handles the client's terminal: raw mode, its size and changes
// of it, and the keys that detach from a container.
package terminal
