// Package e2e holds the end-to-end tests: the binaries of bin/ run real containers, and
// every scenario ends with a search for what it left on the machine.
//
// The binaries are those in the folder BERTH_BIN, else in bin/ of the tree. The tests
// need root and busybox; without, they are skipped with the reason, but where CI is set
// (or BERTH_BIN) that is a failure. Each scenario has a node of its own: root and state
// directories, control group parent and bridge, so that scenarios run side by side.
//
// node_test.go is the toolbox, leaks_test.go the search.
package e2e
