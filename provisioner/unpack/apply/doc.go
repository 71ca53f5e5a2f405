// Package apply is the child of package unpack: it reads the compressed tar
// stream of a layer and makes the files.
//
// All file system calls are relative to descriptors, one path component at a
// time, and follow no symbolic link by themselves. The open directories form one
// stack, which is always the chain of real directories from the root to the
// parent of the present entry: whatever an entry replaces is below the top of the
// stack, so no descriptor can ever stand for a path that was replaced
// (CVE-2025-47290 came from remembering such paths).
//
// Rules that a reader may not expect:
//
//   - Whiteouts and opaque markers hide lower layers only, never entries of their
//     own layer, in whichever order they come.
//   - A directory that takes the place of something else of the same layer is
//     opaque: the layers below were hidden by what was there before.
//   - A symbolic link of the same layer is followed, inside the root, where it is a
//     parent of an entry. One of a lower layer is not known here; the overlay then
//     shows a directory in its place, as with other runtimes.
//   - For one path the last entry counts.
package apply
