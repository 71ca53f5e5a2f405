// Package format prints lists and objects the way Docker's --format does: as a
// table, as JSON lines, or through a Go template.
//
// A list is a slice of [Row]; which fields exist and which of them the table
// shows is a [Layout]. A template that names a field that does not exist is an
// error that lists those that do.
package format
