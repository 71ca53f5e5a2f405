// Package security attacks containers that bin/berth runs, and fails when an attack
// succeeds: hostile images, hostile processes inside a container while others join it,
// hostile arguments. docs/security.md has the table of the classes and their tests.
//
// The binaries are those in the folder BERTH_BIN, else in bin/ of the tree; the tests
// need root and busybox. What attacks from inside is the test binary itself, hard
// linked into the root filesystem as /attack (attack_test.go).
//
// No attack is made that would harm the machine if it succeeded: targets on the host
// are files of the test's own, or it is tried whether a file would open.
package security
