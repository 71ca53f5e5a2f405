// Package file reads files of the node: "file:///PATH" and plain absolute paths.
//
// Only regular files are read. When a user is given, the file is opened with that
// user's rights and none of ours, so that a task cannot fetch what its user may not
// read. The version of a file is its inode, size and times.
package file
