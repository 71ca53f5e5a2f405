// Command bench measures berth beside the peers of this machine and prints a table.
//
//	make bench
//	go run ./test/bench -bin bin -only run,exec -rounds 100
//
// How it measures: contenders take turns (A B C, A B C, …) within one block, so that
// drift of the machine meets all of them, and figures are medians with the 10th and
// 90th percentile. Compare within a block only. There are two regimes: busy starts
// the next command at once, idle waits 50 ms between two, which is the normal life of
// a node and lets the kernel's grace periods show. Wall time is from starting a
// command to having reaped it; processor time is that of its reaped process tree.
//
// What everybody runs: the static busybox's "true" on the same files, with new mount,
// pid, ipc, uts, cgroup and network namespaces, loopback only, memory, cpu, pids and
// device limits, the default capabilities, masked paths, no new privileges and the
// field's default seccomp profile. OCI runtimes get a plain directory as root
// filesystem; berth and Podman run an image, with an overlay.
//
// crun of Debian 12 refuses a machine that has cgroup v1 controllers and a cgroup v2
// mount side by side. On such a machine everything is measured in a private mount
// namespace without the v2 mount.
package main
