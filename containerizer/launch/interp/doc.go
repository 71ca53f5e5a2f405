// Package interp executes launch programs: a child made by a bare clone3(2) walks
// the operations of an encoded program (containerizer/launch/program) and ends in
// execve(2). There is no second start of the Go runtime, no re-exec and no cgo.
//
// How that is possible in Go: the child shares the parent's memory (CLONE_VM,
// without CLONE_VFORK: the parent goes on at once) and runs on a stack of its own
// outside the heap. The function it runs, run, and everything that calls are
// nosplit, allocate nothing, write to no pointer the garbage collector knows, and
// make system calls by syscall.RawSyscall6 only, as the child half of
// syscall.forkAndExecInChild does. Signals are blocked around the clone and
// CLONE_CLEAR_SIGHAND resets handlers, so no handler of the Go runtime can run in
// the child.
//
// Errors cannot be formatted there. A failure is the index of the operation and
// its errno, left in the shared program; whoever compiled the program knows what
// the operation meant.
//
// The parent should be small and not dumpable (prctl(2), PR_SET_DUMPABLE): until
// execve the child, which may already be inside the container's pid and user
// namespace, has the parent's memory. berth-monitor is such a parent. A program whose
// child must not share it (program.Header.Copy) gets a copy without the parent's
// writable memory: see withhold.
//
// The package links into berth-monitor and imports runtime, sync, syscall and
// unsafe only. Needs Linux 5.9 (close_range apart, clone3 with CLONE_CLEAR_SIGHAND is 5.5
// and CLONE_INTO_CGROUP 5.7).
package interp
