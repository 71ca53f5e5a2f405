// Package progress shows how a pull gets on: bars on a terminal, plain lines
// elsewhere, JSON for programs.
//
// It draws the bars itself: the known libraries cost a quarter of a millisecond
// at the start of every command, pull or not (see decisions/0001 in cmd/berth).
package progress
