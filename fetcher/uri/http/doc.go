// Package http reads "http://" and "https://" URIs.
//
// Plain HTTP is allowed: an artifact that matters has a checksum. A redirect from
// https to http is not, nor one to a loopback address from elsewhere, nor more than
// ten; link-local addresses, where clouds keep their credentials, are never connected
// to. User information of a URI goes to its own host only, and no Referer is sent,
// because queries hold signatures. Bodies are taken as they are stored, without
// decompression. The version of a document is its strong ETag, else its
// modification time.
//
// [Client] is what other schemes over HTTP are made of.
package http
