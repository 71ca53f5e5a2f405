// Package hosts reads how registries are reached: mirrors, certificates, headers,
// in the layout of containerd's certs.d directories
// (https://github.com/containerd/containerd/blob/main/docs/hosts.md) and of
// Docker's.
//
//	DIR/REGISTRY/hosts.toml             server, and hosts that are tried before it
//	DIR/REGISTRY/{*.crt,*.cert,*.key}   where there is no hosts.toml: Docker's form
//	DIR/_default/…                      for registries without a directory
//
// REGISTRY is "host", "host_port_" or "host:port". Nothing is cached: what an
// administrator changes holds for the next pull.
//
// It differs from containerd in one thing: a file that cannot be understood whole
// is an error that names the file and the key, and is not passed over.
package hosts
