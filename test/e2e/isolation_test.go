package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestIsolation(t *testing.T) {
	t.Parallel()
	newNode(t).play(t, []scenario{
		{name: "sees itself only", command: sh("ps | wc -l"), want: `[3-5]`},
		{name: "host processes", flags: []string{"--pid", "host"}, command: sh(fmt.Sprintf("[ -d /proc/%d ] && echo seen", os.Getpid())), want: "seen"},
		{name: "no network", flags: []string{"--network", "none"}, command: sh("ls /sys/class/net"), want: "lo"},
		{name: "host network", flags: []string{"--network", "host"}, command: sh("readlink /proc/self/ns/net"), want: escape(namespace("net"))},
		{name: "host name of the host", flags: []string{"--uts", "host"}, command: sh("readlink /proc/self/ns/uts"), want: escape(namespace("uts"))},
		{name: "host ipc", flags: []string{"--ipc", "host"}, command: sh("readlink /proc/self/ns/ipc"), want: escape(namespace("ipc"))},
		{name: "capabilities by default", command: sh("grep CapEff /proc/self/status"), want: `CapEff:\s+00000000a80425fb`},
		{name: "no capabilities", flags: []string{"--cap-drop", "ALL"}, command: sh("grep CapEff /proc/self/status"), want: `CapEff:\s+0000000000000000`},
		{name: "one capability", flags: []string{"--cap-drop", "ALL", "--cap-add", "NET_RAW"}, command: sh("grep CapEff /proc/self/status"), want: `CapEff:\s+0000000000002000`},
		{name: "a user has no capabilities", flags: []string{"-u", "app"}, command: sh("grep CapEff /proc/self/status"), want: `CapEff:\s+0000000000000000`},
		{name: "seccomp filters", command: sh("grep Seccomp: /proc/self/status"), want: `Seccomp:\s+2`},
		{name: "seccomp refuses", command: sh("unshare -U true"), code: 1, stderr: "not permitted"},
		{name: "no seccomp", flags: []string{"--security-opt", "seccomp=unconfined"}, command: sh("grep Seccomp: /proc/self/status"), want: `Seccomp:\s+0`},
		{name: "no new privileges", flags: []string{"--security-opt", "no-new-privileges"}, command: sh("grep NoNewPrivs /proc/self/status"), want: `NoNewPrivs:\s+1`},
		{name: "masked", command: sh("cat /proc/keys; ls /sys/firmware")},
		{name: "kernel settings", command: sh("echo 1 > /proc/sys/kernel/panic"), code: 1, stderr: "Read-only"},
		{name: "control groups are read-only", command: sh("mkdir /sys/fs/cgroup/mine"), code: 1, stderr: "Read-only"},
		{name: "mounts of control groups", command: sh("awk '$5 ~ \"^/sys/fs/cgroup\" && $6 !~ \"^ro\" {print}' /proc/self/mountinfo")},
		{name: "own setting", flags: []string{"--sysctl", "net.ipv4.ip_unprivileged_port_start=77"}, command: sh("cat /proc/sys/net/ipv4/ip_unprivileged_port_start"), want: "77"},
		{name: "no mounting", command: sh("mount -t tmpfs none /mnt"), code: 1, stderr: "denied|permitted|No such"},
		{name: "privileged mounts", flags: []string{"--privileged"}, command: sh("mkdir /m && mount -t tmpfs none /m && echo done"), want: "done"},
		{name: "no raw devices", command: sh("mknod /tmp/vda b 254 0 && cat /tmp/vda"), code: 1, stderr: "not permitted"},
		{name: "devices", command: sh("echo x > /dev/null; head -c 4 /dev/zero | wc -c; [ -d /dev/fd/ ] && [ -c /dev/tty ] && echo ok"), want: "4\nok"},
		{name: "a device of the host", flags: []string{"--device", "/dev/loop-control:/dev/mine:r"}, command: sh("[ -c /dev/mine ] && echo there"), want: "there"},
		{name: "own user namespace", flags: []string{"--userns", "private"}, command: sh("id -u; awk '{print ($2 > 0)}' /proc/self/uid_map"), want: "0\n1"},
		{name: "own user namespace writes", flags: []string{"--userns", "private"}, command: sh("echo x > /root/file && stat -c %u /root/file"), want: "0"},
		{name: "explicit mapping", flags: []string{"--uidmap", "0:300000:1000", "--gidmap", "0:400000:1000"}, command: sh("cat /proc/self/uid_map /proc/self/gid_map"), want: `\s*0\s+300000\s+1000\n\s*0\s+400000\s+1000`},
		{name: "open files", flags: []string{"--ulimit", "nofile=64:128"}, command: sh("ulimit -n; ulimit -Hn"), want: "64\n128"},
		{name: "score", flags: []string{"--oom-score-adj", "500"}, command: sh("cat /proc/self/oom_score_adj"), want: "500"},
		{name: "shared memory", flags: []string{"--shm-size", "1m"}, command: sh("df -k /dev/shm | tail -1 | awk '{print $2}'"), want: "1024"},
		{name: "descriptors", command: sh("ls /proc/self/fd | wc -l"), want: "4"},
	})
}

func namespace(kind string) string {
	link, err := os.Readlink("/proc/self/ns/" + kind)
	if err != nil {
		return err.Error()
	}
	return link
}

// escape makes a namespace's name a regular expression.
func escape(s string) string { return strings.NewReplacer("[", `\[`, "]", `\]`).Replace(s) }

func TestFiles(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	host := t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "in"), []byte("from the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	n.play(t, []scenario{
		{name: "writable by default", command: sh("echo x > /file; cat /file"), want: "x"},
		{name: "read-only", flags: []string{"--read-only"}, command: sh("echo x > /file"), code: 1, stderr: "Read-only"},
		{name: "read-only with a place to write", flags: []string{"--read-only", "--tmpfs", "/run:size=1m"}, command: sh("echo x > /run/file; cat /run/file"), want: "x"},
		{name: "tmpfs size", flags: []string{"--tmpfs", "/t:size=64k"}, command: sh("head -c 100000 /dev/zero > /t/f 2>/dev/null; stat -c %s /t/f"), want: "65536"},
		{name: "volume", flags: []string{"-v", host + ":/v"}, command: sh("cat /v/in; echo y > /v/out"), want: "from the host"},
		{name: "read-only volume", flags: []string{"-v", host + ":/v:ro"}, command: sh("echo y > /v/no"), code: 1, stderr: "Read-only"},
		{name: "one file", flags: []string{"-v", host + "/in:/etc/in:ro"}, command: []string{"cat", "/etc/in"}, want: "from the host"},
		{name: "long form", flags: []string{"--mount", "type=bind,source=" + host + ",target=/v,readonly"}, command: sh("cat /v/in"), want: "from the host"},
		{name: "named volume keeps", flags: []string{"-v", "data:/d"}, command: sh("echo kept > /d/f")},
		{name: "named volume is kept", flags: []string{"-v", "data:/d"}, command: sh("cat /d/f"), want: "kept"},
	})
	if got, err := os.ReadFile(filepath.Join(host, "out")); err != nil || string(got) != "y\n" {
		t.Errorf("written through the volume: %q, %v", got, err)
	}
	n.must("volume", "rm", "data")
}

func TestContainersAreApart(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.sh("echo secret > /file")
	if got := n.sh("cat /file 2>/dev/null || echo gone"); got != "gone" {
		t.Errorf("a new container sees %q of an earlier one", got)
	}
}
