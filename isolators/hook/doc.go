// Package hook brings OCI hooks to containers: those of the description, as a
// config.json of the runtime specification has them, and those of the node, from files
// in the format of oci-hooks(5), version 1.0.0, as Podman and CRI-O read them.
//
// The files of several folders are taken together; one of the same name in a later
// folder replaces the earlier one. They are ordered by name, looked at anew for each
// container, and come after the description's own hooks. A file that cannot be
// understood fails the launch: to leave out what an operator demands would be worse.
//
// The package says which hooks a container has. Running them is the launcher's work
// (containerizer/launcher, hooks.go). It keeps nothing.
//
// The library of Podman is not used: it would bring logrus and more into every start of
// berth, for two hundred lines.
package hook
