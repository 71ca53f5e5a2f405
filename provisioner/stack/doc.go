// Package stack works on stacks of layer directories in overlayfs form without
// mounting them: it looks paths up as the overlay would show them, copies a whole
// stack into one tree (the copy backend), and makes the thin directories that a
// stack needs above a layer whose archive did not list its directories, or links
// to files of lower layers.
//
// Layers are hostile: every path is walked by descriptors, one component at a
// time, and no symbolic link is followed by the kernel.
package stack
