// Package recordio is the framing of Mesos's streams: the length of a record in
// decimal digits, a line feed, and that many bytes. There is no trailer, and the frames
// say nothing of what the records are.
package recordio
