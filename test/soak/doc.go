// Package soak keeps one berthd busy for long, over its socket and with real
// containers, and looks whether anything of it or of the machine grows: memory,
// descriptors, goroutines, processes, mounts, control groups, files. It also measures
// what a daemon costs that has many containers.
//
// `make soak` runs it at the sizes that are asked of a node; the test itself is small.
package soak
