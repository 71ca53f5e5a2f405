package apparmor

import "strings"

// includes are the two places where a profile takes in what the AppArmor project
// ships in /etc/apparmor.d.
type includes struct{ preamble, base string }

// policyFiles are the includes where that folder is there.
func policyFiles() includes {
	return includes{"#include <tunables/global>", "#include <abstractions/base>"}
}

// noFiles stand in for them where it is not.
func noFiles() includes { return includes{"@{PROC}=/proc/", ""} }

// profileText returns the default profile under name, for apparmor_parser. own is
// berth's own profile, which has to be able to signal containers.
//
// The rules are those of Docker's docker-default (github.com/moby/profiles), which
// containerd and Podman share.
func profileText(name, own string, in includes) string {
	return strings.NewReplacer("NAME", quote(name), "OWN", quote(own), "PREAMBLE", in.preamble, "BASE", in.base).Replace(template)
}

// quote puts a profile name into the form that the parser reads back as it is.
func quote(name string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
}

const template = `PREAMBLE

profile NAME flags=(attach_disconnected,mediate_deleted) {
  BASE

  network,
  capability,
  file,
  umount,

  # Signals from the host, from berth, and among the container's processes.
  signal (receive) peer=unconfined,
  signal (receive) peer=OWN,
  signal (send,receive) peer=NAME,

  # Files directly in /proc, and directories there that are not of a process.
  deny @{PROC}/* w,
  deny @{PROC}/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}/** w,
  # Of /proc/sys only kernel/shm* can be written.
  deny @{PROC}/sys/[^k]** w,
  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/kcore rwklx,

  deny mount,

  # Of /sys only fs/cgroup can be written.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,

  # ps(1) and debuggers see the container's own processes.
  ptrace (trace,read,tracedby,readby) peer=NAME,
}
`
