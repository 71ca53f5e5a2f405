// Package credential finds the credentials for a registry: those that come with a
// pull, those of Docker's config.json and Podman's auth.json, and those of
// credential helpers.
//
// It writes what login and logout change. docker/cli's own packages read and write
// the files, docker-credential-helpers speaks with the helpers.
//
// Main invariant: credentials are given for the host that they are configured
// for, and for no other one; errors never contain them.
package credential
