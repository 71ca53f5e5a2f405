// Package cli is the berth command: its sub-commands, one file each.
//
// A command turns flags into calls of containerizer.Engine and
// containerizer.Images and prints what comes back; it holds no lifecycle of its
// own. What a command line gets to work with comes in through [Node], so that
// tests put fakes there and the wiring of the real one is in one place
// (cmd/internal/wiring).
//
// Process start is on the path of every launch, so the tree of commands is built
// lazily: only the command that the arguments name, all of them for help,
// completion and mistakes.
package cli
