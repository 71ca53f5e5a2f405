// Package cache keeps downloaded files below one directory: plain files with locks,
// shared by all processes of the node, readable with ordinary tools and repaired by
// deleting.
//
//	lock                         held while space is counted, given out or taken back
//	locks/KEY                    held by who makes or checks the entry KEY
//	entries/KEY/record.json      where it came from, its version, size and digest
//	            data             the file; locked shared while it is read
//	ingest/KEY/state.json        version of an unfinished download, for taking it up again
//	          data               what there is of it
//	          reserved           bytes set aside for it, while its lock is held
//	trash/…                      what is being deleted
//
// Space is reserved before it is used. When it runs out, unfinished downloads of dead
// processes go first, then the entries that were not used for the longest time;
// entries that are being read stay. What does not fit even then is for the caller to
// keep elsewhere ([ErrNoRoom]).
//
// Invariants: an entry appears by one rename, complete. kill -9 at any instruction
// leaves at most an unfinished download, which the next one of the same key goes on
// with and whose space counts. A power cut can damage what the page cache had: an
// entry of an earlier boot is compared with its digest once before it is used.
package cache
