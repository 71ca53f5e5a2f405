// Package provisioner keeps images and makes root filesystems of them.
//
// It implements containerizer.Provisioner, VolumeProvisioner and Images over
//
//   - a containerizer.Fetcher, which brings bytes from elsewhere,
//   - package manifest, which reads and checks the documents of images,
//   - package unpack, which makes one layer in a confined child process,
//   - package store, the files and locks on disk,
//   - package stack, which works on layers without mounting them.
//
// A pull streams all missing layers at once, each in one pass from the fetcher
// through both digests into its directory. Layers are kept once, by diffID and
// independent of their parents. What a stack of them needs besides (attributes of
// directories that an archive did not list, hard links into lower layers) is a
// thin directory of its own above the layer that needs it.
//
// Which images may be used is a Verifier's (package trust), which is passed in: at a
// pull before any layer, and whenever a container gets an image that the policy in
// force has not accepted yet.
//
// Provisioning a local image reads two small files, makes three directories and
// writes one file; the launcher mounts. Nothing is mounted here.
package provisioner
