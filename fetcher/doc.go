// Package fetcher brings images from elsewhere: registries (package registry),
// OCI image layouts and archives (package archive), named as users name them
// (package reference).
//
// Artifacts, what other URIs name, are brought by package artifact, with the schemes
// below package uri and package cache; they have nothing to do with images.
//
// It implements containerizer.Fetcher. It stores nothing and trusts nothing, and
// what it returns has to be verified by the caller. The registry client is only
// set up when a registry is asked.
package fetcher
