// Package log is how the parts of berth log: zap's cores, encoders and fields, with
// a small logger of our own in front.
//
// zap's own Logger is not used because its package links net/http, which then
// initializes in every process: 100 page faults and as much time as all of the rest
// of a short command's start (decisions/0001). A program that serves gives New the
// core of whatever zap logger it configured; a command makes a core itself.
//
// The message is a constant, lower-case phrase; values are fields with fixed keys.
package log
