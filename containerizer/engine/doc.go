// Package engine is the embedded [containerizer.Engine]: the state machine of the
// container tree, without a daemon. It decides what happens in which order and
// keeps the records; isolators, provisioner and launcher do the work.
//
// Every process of berth has an engine of its own over the same two folders:
//
//	STATE/boot                      id of the boot the folder belongs to
//	STATE/gate                      lock: placing containers against Recover
//	STATE/containers/ID/            Container.Dir of a root container
//	    spec.json                   the request, written once
//	    status.json                 what became of it; replaced by rename
//	    launch.json                 effective spec and merged launch information
//	    ledger                      what is acquired; its lock is the container's
//	    children/ELEMENT/           the same for a child
//	STATE/names/NAME                symbolic link to the id
//	STATE/journal/N                 events of five minutes, one JSON line each
//	STATE/owed/ID                   the container could not be released; retried
//	ROOT/sandboxes/ID[/children/…]/ sandbox of a container with artifacts: files, and
//	                                a note that they are there; Container.Dir links to it
//	ROOT/records/ID[/children/…]/   record.json and log of what survives a reboot
//
// A container appears by one rename, complete and locked, and disappears by one.
// Whoever changes it holds its lock, which the kernel drops with the process: a
// container in between two states whose lock is free was left by a dead process,
// is shown as interrupted, and is undone by the next Destroy, Launch of the same
// id or Recover. Readers take no lock and wait for nobody.
//
// Main invariant: whatever is acquired for a container is in its ledger first,
// and its folder goes last; so what exists can always be found and released.
package engine
