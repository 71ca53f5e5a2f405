// Package registrytest is a registry for tests. It speaks the reading half of the
// OCI distribution protocol, with tokens and passwords, on a port of loopback, and
// has faults: it stalls, breaks off, lies about ranges and content, redirects in
// circles, and answers with errors, each for as many requests as a test wants.
package registrytest
