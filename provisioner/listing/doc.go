// Package listing is the form in which a list of images is kept, to be shown again
// without reading the records it was made of.
//
// A listing is a cache and never the truth: it carries a stamp, which says what it was
// made of, and a checksum. With another stamp, a wrong checksum or anything else that
// is not as Encode wrote it, it does not exist. It is compact, and its strings are
// parts of one: a thousand images are a few hundred pages of memory, of which each
// costs more than to decode it.
package listing
