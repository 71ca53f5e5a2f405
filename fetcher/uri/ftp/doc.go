// Package ftp reads "ftp://" and "ftps://" URIs (TLS from the first byte, port 990),
// in passive mode. The protocol is github.com/jlaffaye/ftp's.
//
// Paths are relative to where a login begins, as in RFC 1738. Data connections go to
// the address of the control connection, whatever the server says, and addresses
// are checked as for HTTP. The version of a file is its size and time, where the
// server tells them.
package ftp
