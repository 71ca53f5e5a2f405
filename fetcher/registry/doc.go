// Package registry reads images from registries that speak the OCI distribution
// protocol.
//
// go-containerregistry does credentials (Docker's config.json, Podman's auth.json,
// credential helpers), the token exchange and its refreshing. The requests for
// manifests and blobs are ours: they have limits, retries that honour
// Retry-After, and blobs carry on by ranges where a connection broke or stalled.
//
// Plain HTTP is used for loopback addresses and hosts named in the options only.
// Link-local addresses, where clouds keep their credentials, are never connected
// to, whatever a redirect says.
package registry
