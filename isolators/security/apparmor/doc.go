// Package apparmor confines a container's process with an AppArmor profile, where
// the kernel has AppArmor.
//
// Settings: Options.Profile, the name of the default profile; Options.Strict. Of
// Spec.Security: AppArmor ("", "unconfined" or the name of a loaded profile) and
// Privileged, which means unconfined.
//
// The default profile is Docker's in substance: no mounting, no writing to /proc/sys
// and /sys, no tracing of processes outside. It is loaded with apparmor_parser when
// it is first needed, and stays loaded: it belongs to the node, not to a container,
// and loading it again gives the same. A named profile has to be loaded by the
// operator.
//
// Without AppArmor in the kernel "" and "unconfined" are fine and a named profile
// is refused. Without apparmor_parser the default profile cannot be loaded: the
// container runs without one, which is logged once, or is refused if Options.Strict. The
// launcher enters the profile at execve (/proc/self/attr/apparmor/exec).
package apparmor
