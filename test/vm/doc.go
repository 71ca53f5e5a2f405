// Command vm runs one program as root in a virtual machine with another kernel
// and another cgroup layout than the machine it is started on:
//
//	CGO_ENABLED=0 go test -c -o /tmp/cgroup.test ./isolators/cgroup
//	go run ./test/vm /tmp/cgroup.test -test.v
//	go run ./test/vm -cgroup v1 -file testdata:/root/testdata /bin/busybox sh -c 'ls /root/testdata'
//
// The program's output appears on standard output as it is made, and its exit
// status becomes that of vm. 124 says that the time was up, 125 that the machine
// could not be made or died; the kernel's last words are printed then.
//
// What the guest has:
//
//   - Debian's cloud kernel (6.1 on Debian 12), fetched with apt-get once and kept
//     in the user's cache directory, or the one of -kernel and -modules-dir
//   - with -disk, an ext4 filesystem on /disk, where temporary files go: the memory
//     filesystem of old kernels lacks mounts with mapped ids, for one
//     with -disk-image it stays for the next run; with -cut a run ends as by a power cut,
//     which takes from the disk what the guest has not written to it
//   - a root filesystem in memory with the static busybox and links for all of its
//     applets, /etc/passwd and friends, and the files that were asked for:
//     -file SRC[:DST] copies a file or a folder (DST is SRC's absolute path when
//     not given), -program NAME a dynamic program of this machine with its
//     libraries, such as nft; the program to run is copied by itself and must be
//     static or need only what was copied
//   - every controller the kernel has: -cgroup v2 (the default), v1, or hybrid
//   - kernel modules for overlay, bridges, veth, nftables and the like, loaded when
//     the kernel asks for them
//   - a loopback interface and no network; two processors and 2 GiB of memory
//
// It boots in a few seconds under emulation, and faster with -accel kvm where that
// works (a /dev/kvm that can be opened is no proof of it, so it is not tried).
// Nothing is left behind but the cached kernel.
//
// Package guest is the program that is process 1 and modprobe in there.
package main
