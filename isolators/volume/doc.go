// Package volume puts what lies outside the root filesystem into a container.
//
// Isolators, one a kind of mount:
//
//	volume/host_path     binds a path of the host
//	volume/sandbox_path  binds a path of the container's or its parent's sandbox
//	volume/named         binds a volume of this node
//	volume/image         mounts the content of an image, read-only
//	volume/tmpfs         mounts a tmpfs, or another filesystem of the kernel
//
// Settings: Spec.Mounts. A sandbox directory is the folder "sandbox" of a
// container's directory; a named volume is a folder below [Options.Volumes], whose
// life is not the container's. Image volumes are given up with the container's root
// filesystem (containerizer.Provisioner.Destroy). Sources are opened by the
// launcher as the host's root, once, and never looked up again.
package volume
