// Package store is the image store on disk: plain files with locks, readable with
// ordinary tools and repaired by deleting.
//
//	oci/oci-layout, oci/blobs/ALG/HEX  manifests, indexes, configurations and layer blobs
//	layers/HEX/{meta.json,fs/}         one layer, by diffID, in overlayfs form
//	layers/HEX/files.mtree             its files (mtree(5)), listed by a sweep, for checks
//	layers/fix-HEX/…                   what a stack needs above one of its layers, by chainID
//	images/HEX.json                    one image, by the digest of its manifest
//	refs/HEX.json                      one name, by the SHA-256 of the name
//	origins/HEX/HEX.json               where an image came from, and what made it trusted
//	containers/ID/…                    writable layers, and which image a container uses
//	leases/ID.json                     what a running pull needs; locked as long as it runs
//	ingest/HEX                         locks of layers being made
//	ingest/part-ALG-HEX                a blob being downloaded, or whose download broke off
//	stage/LEASE-N/                     everything under construction
//	pending/…                          what is not known to be on disk yet
//	trash/…                            what is to be deleted
//	empty/                             an empty layer
//	listing                            the last list of images, as long as it is right
//	locks/{gc,names,sweep,flush,files}
//
// Invariants:
//
//   - What has its final name is complete and verified: it was made in stage and
//     renamed. kill -9 at any instruction leaves something in stage, leases or
//     trash only, and the next sweep removes that.
//   - A record that is not durable carries the boot id under which it was made. In
//     that boot the page cache vouches for it; in a later one it is not trusted.
//   - Whoever relies on something unreferenced holds a lease, or the gc lock shared.
//     Only the holder of the gc lock alone removes things, by renaming to trash.
package store
