// Package daemon is what berthd does: it opens the node, serves the API on sockets,
// keeps the containers, and tells systemd, metrics and logs about it.
//
// It may be killed at any instruction. What it was doing is in the containers' records
// and ledgers; the next one, or any `berth`, finishes or undoes it. It holds one lock,
// so that there is one daemon for a state folder, beside any number of commands.
package daemon
