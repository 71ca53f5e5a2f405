// Package logfile writes container logs in the CRI format, one entry a line:
//
//	2026-11-23T17:11:11.123456789Z stdout F text of the line
//
// The time is UTC with nine digits of a second: it sorts as text and has no gap
// when clocks change. All entries of one Write carry one time. A line longer than
// [MaxLine] bytes is split into entries tagged P, the last one F. Bytes after the
// last newline wait for the rest of their line, until there are more than MaxLine
// or the stream ends; at the end they are written with tag P, so that a reader can
// tell a last line without newline.
//
// Rotation: before the file would grow beyond its maximum it is renamed to NAME.1,
// NAME.1 to NAME.2 and so on, and a new file begun. Entries are never torn apart.
//
// A write error never stops the container: what could not be written is counted,
// a torn entry is cut off, and once writing works again an entry on stderr says
// how much is missing. A slow disk does hold up the container: the output is not
// kept in memory.
//
// The package links into berth-monitor: no fmt, no time, no os.
package logfile
