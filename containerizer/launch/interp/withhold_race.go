//go:build race

package interp

// withhold is nothing with a C library: see the other one.
func withhold() {}
