// Package codec turns the messages of proto/mesos into bytes and back, in the two forms
// that Mesos has: protobuf, and a JSON of its own (that of stout, not of proto3).
//
// In that JSON the fields have their names of the .proto files, enumerations the names
// of their values, bytes are base64, and 64-bit integers are numbers. Unset scalars that
// have a default are written with it. What is read may be looser: integers, doubles and
// booleans in strings, a single value in place of a list, null for unset, fields that
// nobody knows; but not a number for an enumeration.
package codec
