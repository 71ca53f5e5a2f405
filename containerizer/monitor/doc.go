// Package monitor is berth-monitor: the small parent of the processes of one root
// container. It runs their launch programs (containerizer/launch/interp), reaps
// them, moves their output to logs and clients, holds terminals and namespaces,
// and records how they ended. It knows nothing of images, isolators or engines,
// and nothing of containers beyond names.
//
// The binary links this package, the interpreter and the smallest packages of the
// standard library only; whoever talks to a monitor uses package client. The frames
// between the two are package wire, the files that a monitor leaves are package
// record.
//
// # Life
//
// A client starts a monitor by fork and exec, in a session of its own, with a
// connection as descriptor 3, so the first request can be waiting before the
// monitor runs. It may do so before there is a container. The first frame is the
// monitor's home, the private directory of the root container, and what the exit command
// lacked at the start: for later clients it
// listens there as monitor.sock (mode 0600; other users are refused by their
// credentials). It ends
//
//   - when a client says so (Shutdown), or
//   - when the root's process has ended and no client is connected that promised to
//     tear the root down, or
//   - when no client came to launch anything.
//
// In the last two cases it kills the other processes it has, waits for them (two
// seconds at most) and becomes, by execve(2), the exit command given at its start
// (unless it had no home, and so no container):
// nothing is left behind, and the teardown of a container whose client died
// happens without anybody waiting. The exit command keeps the monitor's pid.
//
// Killing a client, at any time, disturbs nothing that runs: a process waits at
// most where its foreground client had held it up. A process at the barrier is
// killed with the client that launched it, which alone knew what was to be done
// there; a held one (created and not started) lives on.
//
// Killing the monitor takes along its knowledge and no process: there is no
// PR_SET_PDEATHSIG. Clients see the end of their connection, and readers of the
// records a process whose monitor is gone. The process meets SIGPIPE or a hang-up
// when it uses its streams; the engine ends it through its control group. SIGTERM
// and other signals do not end a monitor.
//
// # Elements
//
// Each container and each exec session is an element, under a name that the client
// gives. The first one that is no exec session is the root; the root may be
// launched again after it has ended. A child or exec session ends nothing but
// itself. An element is forgotten when its process has ended and its output too.
// A pod sandbox without process is an element that is only namespaces, which the
// monitor holds open; /proc/MONITOR/fd/N opens them.
//
// An element with a record directory has its pid there before its program does
// anything that could last (files process and exit, see package record), and its
// exit only after its output is in the log. An exit is told to clients after that.
//
// The process of an element may be made by an OCI runtime, which the element's program
// executes (adopt.go, wire.LaunchAdopt): when the runtime has ended, what it has left
// behind is the element's process.
//
// The monitor is a subreaper: processes that outlive their parents in the host's
// pid namespace come to it and are reaped.
//
// # Output
//
// Output goes to the log (package internal/logfile: CRI format, rotation, and write
// errors that never stop a process) and to every session.
//
// What a session has been sent and not acknowledged is bounded. A session that
// asked for it (the client in the foreground) holds up the process once it owes
// 256 KiB, as a pipe would; any other is dropped, with a frame that says so, once
// it owes 1 MiB, and neither the process nor other sessions notice it. The bounds
// hold for the sum of socket, monitor and client, so a stuck client costs 1 MiB.
//
// After the process has ended, what it had written is delivered, whoever is
// behind, and the exit is told. If others hold the pipe open, their output is
// delivered for two seconds more; then the pipe is closed. (Docker waits about as
// long; without a bound an exec that leaves a daemon behind would never return.)
//
// With a terminal there is one stream, stdout, in the log as well. Its end is the
// hang-up after the process's exit; before that, a terminal that nobody has open
// may be opened again.
//
// # Input
//
// Any number of sessions may write. Each has a window of 64 KiB; bytes are
// acknowledged when the process's pipe has taken them, so a process that does not
// read blocks no connection. StdinOnce closes the pipe when the first session with
// input ends, whether by CloseStdin, detach or death; on a terminal it types the
// end-of-file character instead. StdinOpen keeps it open for the next.
//
// # Limits
//
// 64 connections, 1024 elements, 256 sessions of a connection and of an element,
// 1024 descriptors of a launch, 64 KiB a frame, 1.1 MiB of frames waiting for a
// client. A malformed request is answered with an error and nothing else happens;
// a frame without a valid header ends the connection, as does a client that asks
// and does not listen.
//
// # Memory and time
//
// One goroutine, an epoll loop, system calls without wrappers; buffers beside the
// Go heap, given back one second after the last event; no timer, no garbage
// collection and no wake-up while nothing happens (but one of the Go runtime's
// own, once a minute). One P, no collector: the client sets the environment for
// that (see wire.EnvOneP). Twenty monitors with a container each take 524 KiB of
// PSS each, conmon 379; with two containers 246 a container (TestMemory).
//
// # Security
//
// The monitor is not dumpable: until its execve a container's process shares the
// monitor's memory, and may already be in namespaces that hostile processes live
// in. Descriptors that its starter had open are closed. All of its own are
// close-on-exec, and a process begins its program with closing all but its inputs.
package monitor
