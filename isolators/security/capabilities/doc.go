// Package capabilities gives a container's process its capability sets
// (capabilities(7)).
//
// Settings: Options.Default, the capabilities of a container that asks for
// nothing. Of Spec.Security: Privileged, CapAdd, CapDrop, CapAmbient. The rule is
// Kubernetes': the default set, or all with CapAdd ALL, or none with CapDrop ALL;
// then the additions; then the drops, so that a drop beats an addition.
//
// Bounding, permitted and effective set are that; the inheritable set stays empty
// (CVE-2022-24769: a file with inheritable capabilities would give them to any
// user) but for what is asked for as ambient.
//
// Needs: in the host's user namespace a container can have only what berth has. In
// its own it has every capability over its own, so all can be asked for. Names
// that the kernel does not have are refused. Nothing is kept on the node.
package capabilities
