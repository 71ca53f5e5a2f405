// Package seccomp chooses the system call filter of a container: which profile, and
// which of the profile's rules hold for it. Compiling and loading the filter is the
// launch path's.
//
// Settings: Options.Default, the profile of containers that name none; Options.Check.
// Of Spec.Security: Seccomp ("", "default", "unconfined" or a file) and Privileged,
// which lifts it.
//
// The built-in profile is Docker's (module github.com/moby/profiles/seccomp) as it
// is: the field tests its images against it. Profiles in Docker's form have rules
// that hold for some capabilities, architectures or kernels only; with
// CAP_SYS_ADMIN, say, mount(2) is allowed. The capabilities are those of the launch
// information, so the isolator comes after linux/capabilities. A profile in the
// form of the runtime specification is a special case of this form.
//
// A profile file is foreign input: it is bounded in size, has to be a regular file,
// and a profile without a default action is refused (Docker takes an empty one
// for no confinement). Nothing is kept on the node.
package seccomp
