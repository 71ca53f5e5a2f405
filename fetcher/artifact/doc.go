// Package artifact implements containerizer.Artifacts: what URIs name, brought into
// a directory.
//
// Everything is first downloaded (package uri), kept if that is wanted (package
// cache), compared with its checksum and extracted below a directory of its own in
// the destination, ".berth-fetch-…", which is locked while it is used. Only when all
// of it is there is it moved to its place, by descriptors: no link and no name leads
// out of the destination. A directory that a killed process left is removed by the
// next fetch into the same place.
//
// Schemes, the extractor and the cache come in from outside; archives are parsed
// only by the extractor.
package artifact
