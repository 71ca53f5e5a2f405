// Package images tests the fetcher and the provisioner together, with images made
// by other tools (umoci, buildah, skopeo) and a registry that speaks the real
// protocol.
package images
