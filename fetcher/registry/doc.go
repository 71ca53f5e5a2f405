// Package registry reads images from registries that speak the OCI distribution
// protocol.
//
// An image has one Origin and several endpoints: the mirrors of package hosts in
// their order, then the registry's own server. Everything is asked of one after the
// other (try.go); a host that failed is left alone for a while (outage.go). Blobs
// carry on by ranges where a connection broke or stalled, at another host if need
// be (blob.go, flow.go).
//
// Package credential finds credentials; go-containerregistry exchanges them for
// tokens, which are remembered for the next image (memory.go). Who gets them is
// decided here (auth.go): the endpoint that they are for, by scheme, host and port,
// after it asked; never who it redirects to.
//
// Plain HTTP is used for loopback addresses and configured hosts only. Link-local
// addresses, where clouds keep their credentials, are never connected to, whatever a
// redirect says. What is large is not verified here: the store does that, and says
// by Doubt when it found something wrong.
package registry
