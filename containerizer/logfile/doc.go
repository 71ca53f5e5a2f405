// Package logfile reads the log files of containers, which are in the format of
// the CRI ("TIME STREAM TAG CONTENT"), rotated ones included, and follows them
// while they are written.
package logfile
