package security_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What the kernel lets root do is out of reach for a container's: the files of proc,
// sysfs and the control groups that give power over the machine (release_agent is
// CVE-2022-0492).
func TestKernelFiles(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	rootfs := n.rootfs()
	const script = `for f in /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/kernel/hotplug /proc/sys/fs/binfmt_misc/register \
		/proc/sys/vm/panic_on_oom /proc/irq/default_smp_affinity /proc/bus/pci/00/00.0 /sys/kernel/uevent_helper /sys/power/state /sys/kernel/mm/ksm/run /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/release_agent \
		/sys/fs/cgroup/*/notify_on_release /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/*/tasks /sys/fs/cgroup/devices/devices.allow /sys/fs/cgroup/memory/memory.limit_in_bytes; do
		[ -e "$f" ] && ( : >> "$f" ) 2>/dev/null && echo "opened $f"
	done
	for f in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do [ -s "$f" ] || [ "$(head -c 1 "$f" 2>/dev/null | wc -c)" != 0 ] && echo "read $f"; done
	mkdir -p /m
	for t in proc sysfs cgroup cgroup2 tmpfs debugfs devpts mqueue securityfs; do mount -t $t $t /m 2>/dev/null && echo "mounted $t"; done
	mount -o remount,rw /proc/sys 2>/dev/null && echo remounted; umount /proc/sys 2>/dev/null && echo unmounted; umount -l /proc/keys 2>/dev/null && echo unmounted
	:`
	for name, flags := range map[string][]string{
		"default":          nil,
		"user namespace":   {"--userns", "private"},
		"without a filter": {"--security-opt", "seccomp=unconfined"},
		"no capabilities":  {"--cap-drop", "ALL"},
	} {
		t.Run(name, func(t *testing.T) {
			if r := n.in(t).sh(rootfs, script, flags...); r.stdout != "" || r.code != 0 {
				t.Errorf("got %+v", r)
			}
		})
	}
}

// Even with a user namespace of its own making, where it has every capability, a
// process does not get at release_agent or at what was masked.
func TestOwnUserNamespace(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	r := n.sh(n.rootfs(), `unshare -Ur true && unshare -Urmp --fork sh -c '
		mkdir -p /m; for c in memory pids devices; do mount -t cgroup -o $c c /m 2>/dev/null && ( echo x > /m/release_agent ) 2>/dev/null && echo "wrote release_agent of $c"; done
		mount -t proc proc /m 2>/dev/null && echo "mounted a full proc"
		umount /proc/keys 2>/dev/null && echo unmasked
		mount -o remount,bind,rw /proc/sys 2>/dev/null && echo remounted
		mknod /m/vda b 254 0 2>/dev/null && echo "made a device"'; :`, "--security-opt", "seccomp=unconfined")
	if r.stdout != "" || r.code != 0 {
		t.Errorf("got %+v", r)
	}
}

// Mounts of a container stay there, whatever the propagation of what it was given.
func TestMountsStayInside(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	shared := t.TempDir()
	for _, args := range [][]string{{"--bind", shared, shared}, {"--make-rshared", shared}} {
		if out, err := exec.CommandContext(t.Context(), "mount", args...).CombinedOutput(); err != nil {
			t.Fatalf("mount %v: %v %s", args, err, out)
		}
	}
	defer func() {
		if out, err := exec.Command("umount", "-R", shared).CombinedOutput(); err != nil { //nolint:noctx // clean-up
			t.Errorf("umount: %v %s", err, out)
		}
	}()
	for _, options := range []string{"", ":rslave", ":rprivate"} {
		r := n.sh(n.rootfs(), "mount -t tmpfs inside /v && mkdir /v/x /y && mount -t tmpfs inside /y && mount -t tmpfs inside /etc && echo done",
			"--privileged", "-v", shared+":/v"+options)
		if r.stdout != "done" {
			t.Errorf("%q: %+v", options, r)
		}
		if table, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(table), " inside ") {
			t.Errorf("%q: a mount of the container is on the host: %v", options, err)
		}
	}
}

// What berth writes to proc for a container goes to the kernel, not to what a volume
// puts there (CVE-2025-52881, CVE-2019-16884).
func TestVolumesOnProc(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for _, target := range []string{"/proc", "/proc/sys", "/proc/sys/net", "/proc/self", "/proc/self/attr", "/proc/1"} {
		t.Run(target, func(t *testing.T) {
			n, fake := n.in(t), t.TempDir()
			for _, f := range []string{"sys/net/ipv4/ip_forward", "net/ipv4/ip_forward", "ipv4/ip_forward", "self/attr/exec", "self/attr/apparmor/exec", "attr/exec", "exec", "apparmor/exec", "self/setgroups", "self/oom_score_adj"} {
				if err := errorsOf(os.MkdirAll(filepath.Join(fake, filepath.Dir(f)), 0o755), os.WriteFile(filepath.Join(fake, f), nil, 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			r := n.sh(n.rootfs(), "echo ran", "-v", fake+":"+target, "--sysctl", "net.ipv4.ip_forward=1", "--oom-score-adj", "77")
			if r.code != 0 && r.code != 125 {
				t.Errorf("got %+v", r)
			}
			err := filepath.Walk(fake, func(path string, st os.FileInfo, err error) error {
				if err == nil && st.Mode().IsRegular() && st.Size() > 0 {
					t.Errorf("%s was written", path)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// Devices are those that were asked for, at paths inside the container.
func TestDevices(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for name, c := range map[string]struct {
		flags []string
		code  int
		want  string
	}{
		"path that goes up":                         {[]string{"--device", "/dev/zero:/../../../mine"}, 125, ""},
		"on a file":                                 {[]string{"--device", "/dev/zero:/etc/passwd"}, 125, ""},
		"at a name of the host's":                   {[]string{"--device", "/dev/zero:/dev/mine"}, 0, "1,5 /dev/mine"},
		"at another's name":                         {[]string{"--device", "/dev/zero:/dev/loop-control"}, 0, "1,5 /dev/loop-control"},
		"at another's name in a user namespace":     {[]string{"--userns", "private", "--device", "/dev/zero:/dev/loop-control"}, 0, "1,5 /dev/loop-control"},
		"at a name of nobody's in a user namespace": {[]string{"--userns", "private", "--device", "/dev/zero:/dev/mine"}, 0, "1,5 /dev/mine"},
		"no device":                                 {[]string{"--device", "/etc/shadow"}, 125, ""},
		"path of the host that goes up":             {[]string{"--device", "/dev/../etc/shadow:/dev/x"}, 125, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := n.in(t).sh(n.rootfs(), `for f in /mine /dev/mine /dev/loop-control; do [ -c $f ] && echo "$((0x$(stat -c %t $f))),$((0x$(stat -c %T $f))) $f"; done; :`, c.flags...)
			if r.code != c.code || r.stdout != c.want {
				t.Errorf("got %+v, want code %d and %q", r, c.code, c.want)
			}
		})
	}
}
