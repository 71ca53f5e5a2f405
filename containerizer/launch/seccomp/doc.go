// Package seccomp compiles a seccomp profile of the runtime specification into
// the classic BPF program that seccomp(2) loads, and keeps compiled programs in a
// cache. It needs neither libseccomp nor cgo.
//
// The program first tells the ABIs apart by seccomp_data.arch (and x32 by bit 30
// of the number); an ABI that the profile does not list is killed. Each ABI has a
// search tree over ranges of system call numbers with the same outcome; argument
// rules hang below as further trees, shared between ABIs. A short path matters
// twice: when a filter is loaded the kernel runs it once for every number, to
// learn which calls it always allows (kernel/seccomp.c, seccomp_cache_prepare);
// those calls cost nothing later.
//
// What a profile means is what runc with libseccomp makes of it, with these
// differences, all towards refusing:
//
//   - Several rules of one call that match at once: the most restrictive action
//     wins, as it does between several filters (seccomp(2)). libseccomp prefers the
//     rule without arguments, or the one that was added first.
//   - An ABI that is not listed kills the process, not only the thread.
//   - A rule for a socket or System V IPC call covers the i386 multiplexers
//     socketcall and ipc too, and cannot be evaded by the version bits of ipc. A
//     condition on arguments cannot be checked behind a multiplexer (they are in
//     memory): such a rule applies there unconditionally if it restricts, and not at
//     all if it allows. libseccomp compares the wrong arguments then.
//   - x32 calls below 512 follow the x86-64 call of the same number, so that old
//     kernels, which ran it, cannot be used to evade a rule.
//
// As in runc, calls newer than every call of a restrictive profile return ENOSYS
// instead of the default action: programs probe for new calls, and fall back on
// ENOSYS but not on EPERM.
//
// The package leaves to others: loading (the launch program), choosing a profile
// and resolving Docker's conditional rules (isolators/security/seccomp).
package seccomp

//go:generate go run gen.go
