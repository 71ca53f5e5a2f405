// Package nettest gives tests a machine's network of their own: the test binary
// runs again in a new network namespace, which plays the host. Bridges, rules
// and sysctls of the real machine are never touched, and all goes with the process.
package nettest
