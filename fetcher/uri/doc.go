// Package uri reads what URIs name: a contract for schemes, each of which is a
// package below this one, and the download that is the same for all.
//
// A scheme opens a URI, from an offset if it can, and tells the version of what it
// opened. [Downloader] carries on where a connection broke or stalled, begins anew
// when the content changed meanwhile, and keeps to a limit of bytes. It knows
// neither caches nor archives; see the packages cache and artifact.
//
// Main invariant: what a [Part] has at the end of a download is one version of the
// content, whole, or the download has failed. Secrets of a URI (user information
// and query) are in no error.
package uri
