// Package record is the form of the two small files that a monitor keeps in the
// directory of each container, so that nobody has to ask the monitor:
//
//	process   once the process exists, again once its execve was done
//	exit      once it has ended and its output is in the log
//
// A file appears complete or not at all: it is written aside and renamed. Each is
// one line of text, the name and version of the form and decimal numbers:
//
//	berth-process 1 PID START-TICKS MONITOR-PID MONITOR-START-TICKS STARTED-AT
//	berth-exit 1 WAIT-STATUS FINISHED-AT LOG-LOST
//
// Times are nanoseconds since 1970, 0 for not yet. Start ticks are field 22 of
// /proc/PID/stat: a pid belongs to the recorded process only as long as they
// agree. Later versions of berth may add numbers at the end of a line; readers
// ignore them. A container that is launched anew loses its old exit file before
// its process exists.
//
// A directory with a process file and no exit file, whose process or monitor is
// not there any more, is that of a monitor that was killed.
//
// The package links into berth-monitor and imports nothing.
package record
