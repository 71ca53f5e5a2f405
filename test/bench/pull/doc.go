// Package pull measures pulling and unpacking images beside containerd and podman,
// from one registry on loopback.
//
// The images are made of the machine's own files, always the same way: "big" is one
// layer of shared libraries, "many" has twenty layers, "small" is one layer of 50 000
// files below 64 KiB; all are compressed with gzip. They are kept, with the registry's
// storage, in a folder for the next time.
//
// How it measures: contenders take turns, each with a root of its own on a new ext4 of
// its own, a loop device (where many files were deleted in the last minutes, by whomever,
// ext4 makes files many times slower). Before each command memory is touched and given back
// (the first touch of a virtual machine's memory can cost more than what is
// measured), everything is written to disk, and what commands left to the background is
// done; how long the disk takes afterwards is
// timed apart. Processor time is that of the client's process tree and of the daemon
// with its children. Peak memory is the most that all these processes had at one
// moment: their private pages, and what they map of files, once for each program.
package pull
