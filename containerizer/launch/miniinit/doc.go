// Package miniinit is a pid 1 of about 300 bytes: it starts a command, forwards
// signals to it, reaps what is orphaned, and ends as the command ended (128 plus the
// signal's number if by one). Without a command it only reaps, until SIGTERM or
// SIGINT.
//
// It is machine code of this package, copied into an ELF file in memory that
// execveat(2) executes. So there is no file of berth's that a container could
// reach, nothing to install beside berth, and no Go runtime per container: the
// process has one page of code and its stack.
//
// Arguments: argv[1] is the path of the command, argv[2] and what follows the
// command's own argv. The command runs in a process group of its own, in the
// foreground of the terminal on descriptor 0 if there is one, so that a key like
// Ctrl-C reaches it once. If it cannot be executed the status is 127 when it does
// not exist, otherwise 126.
package miniinit
