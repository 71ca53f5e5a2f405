package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Malformed input of every kind gets one sentence on standard error, exit status 125
// and leaves nothing; the end of the test looks for what was left.
func TestBadInput(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	notJSON, notArchive := write("profile.json", "{"), write("archive", "this is no archive")
	badEnv := write("env", "A=1\n=broken\n")
	emptyLayout := filepath.Join(dir, "layout")
	if err := os.Mkdir(emptyLayout, 0o755); err != nil {
		t.Fatal(err)
	}

	run := func(flags ...string) []string { return n.run(append([]string{"--rm"}, flags...), "true") }
	image := func(reference string) []string { return []string{"run", "--rm", reference, "true"} }
	for _, c := range []struct {
		name string
		args []string
		// says is in the message: what was wrong.
		says string
	}{
		{"no image", []string{"run"}, "image"},
		{"unknown flag", run("--nosuch"), "--nosuch"},
		{"reference with capitals", image("UPPER/Case"), "UPPER/Case"},
		{"reference with spaces", image("a b"), "a b"},
		{"reference with a bad tag", image("busybox:!"), "busybox:!"},
		{"reference with a bad digest", image("busybox@sha256:123"), "sha256:123"},
		{"unknown transport", image("ftp://host/image"), "ftp"},
		{"layout that is not there", image("oci:" + dir + "/nothing:x"), dir + "/nothing"},
		{"layout that is empty", image("oci:" + emptyLayout + ":x"), emptyLayout},
		{"tag that the layout lacks", image(strings.TrimSuffix(n.image, "busybox") + "nosuch"), "nosuch"},
		{"archive that is none", image("oci-archive:" + notArchive), notArchive},
		{"docker archive that is none", image("docker-archive:" + notArchive), notArchive},
		{"archive that is not there", image("docker-archive:/no/such.tar"), "/no/such.tar"},
		{"image that is not here", []string{"run", "--rm", "--pull", "never", "nowhere.invalid/x", "true"}, "nowhere.invalid/x"},
		{"registry that is not there", image("localhost:1/x"), "localhost:1"},
		{"unknown platform", append([]string{"run", "--rm", "--platform", "linux/nosuch", "--pull", "always"}, n.image, "true"), "nosuch"},
		{"memory", run("--memory", "lots"), "lots"},
		{"memory too small", run("--memory", "1k"), "memory"},
		{"memory negative", run("--memory", "-5"), "-5"},
		{"swap below memory", run("--memory", "64m", "--memory-swap", "32m"), "swap"},
		{"processors", run("--cpus", "many"), "many"},
		{"negative processors", run("--cpus", "-1"), "-1"},
		{"more processors than there are", run("--cpuset-cpus", "999"), "999"},
		{"cpuset syntax", run("--cpuset-cpus", "a-b"), "a-b"},
		{"pids", run("--pids-limit", "x"), "x"},
		{"volume syntax", run("-v", "a:b:c:d"), "a:b:c:d"},
		{"volume to a relative path", run("-v", "/tmp:relative"), "relative"},
		{"volume name", run("-v", "bad name:/x"), "bad name"},
		{"volume with an unknown option", run("-v", "/tmp:/x:nosuch"), "nosuch"},
		{"mount type", run("--mount", "type=nosuch,target=/x"), "nosuch"},
		{"mount without target", run("--mount", "type=bind,source=/tmp"), "target"},
		{"mount of what is not there", run("--mount", "type=bind,source=/no/such,target=/x"), "/no/such"},
		{"mount option", run("--mount", "type=bind,source=/tmp,target=/x,bogus=1"), "bogus"},
		{"tmpfs option", run("--tmpfs", "/x:nosuch=1"), "nosuch"},
		{"device", run("--device", "/dev/nosuch"), "/dev/nosuch"},
		{"no device", run("--device", "/etc/passwd"), "/etc/passwd"},
		{"device permissions", run("--device", "/dev/null:/dev/x:q"), "q"},
		{"capability", run("--cap-add", "NOSUCH"), "NOSUCH"},
		{"dropped capability", run("--cap-drop", "NOSUCH"), "NOSUCH"},
		{"security option", run("--security-opt", "nosuch=1"), "nosuch"},
		{"profile that is not there", run("--security-opt", "seccomp=/no/such.json"), "/no/such.json"},
		{"profile that is no JSON", run("--security-opt", "seccomp="+notJSON), notJSON},
		{"user that is not there", run("-u", "nobodyhere"), "nobodyhere"},
		{"group that is not there", run("-u", "root:nogrouphere"), "nogrouphere"},
		{"user that is no number", run("-u", "-1"), "-1"},
		{"further group", run("--group-add", "nogrouphere"), "nogrouphere"},
		{"name", run("--name", "../x"), "../x"},
		{"host name", run("--hostname", "a/b"), "a/b"},
		{"environment", run("-e", "=x"), "=x"},
		{"environment file", run("--env-file", badEnv), badEnv},
		{"environment file that is not there", run("--env-file", "/no/such"), "/no/such"},
		{"working directory", run("-w", "relative"), "relative"},
		{"ulimit", run("--ulimit", "nosuch=1"), "nosuch"},
		{"ulimit order", run("--ulimit", "nofile=2:1"), "nofile"},
		{"sysctl", run("--sysctl", "no.such=1"), "no.such"},
		{"sysctl of the host", run("--sysctl", "kernel.panic=1"), "kernel.panic"},
		{"label", run("--label", "=x"), "=x"},
		{"port", run("-p", "99999:1"), "99999"},
		{"port syntax", run("-p", "a:b:c:d"), "a:b:c:d"},
		{"protocol", run("-p", "1:1/icmp"), "icmp"},
		{"address", run("-p", "300.1.1.1:1:1"), "300.1.1.1"},
		{"network", run("--network", "nosuch"), "nosuch"},
		{"network of nobody", run("--network", "container:nobody"), "nobody"},
		{"name server", run("--dns", "not-an-address"), "not-an-address"},
		{"added host", run("--add-host", "nocolon"), "nocolon"},
		{"pid of nobody", run("--pid", "container:nobody"), "nobody"},
		{"ipc mode", run("--ipc", "nosuch"), "nosuch"},
		{"user namespace mode", run("--userns", "nosuch"), "nosuch"},
		{"mapping", run("--uidmap", "0:x"), "0:x"},
		{"stop signal", run("--stop-signal", "NOSUCH"), "NOSUCH"},
		{"restart policy", run("--restart", "always"), "restart"},
		{"log driver", run("--log-driver", "nosuch"), "nosuch"},
		{"log option", run("--log-opt", "nosuch=1"), "nosuch"},
		{"cgroup parent", run("--cgroup-parent", "../.."), ".."},
		{"rootfs that is not there", []string{"run", "--rm", "--rootfs", "/no/such", "true"}, "/no/such"},
		{"rootfs that is a file", []string{"run", "--rm", "--rootfs", "/etc/passwd", "true"}, "/etc/passwd"},
		{"format", []string{"ps", "--format", "{{.Nosuch}}"}, "Nosuch"},
		{"template", []string{"ps", "--format", "{{"}, "--format"},
		{"filter", []string{"ps", "--filter", "nosuch=1"}, "nosuch"},
		{"pull nothing", []string{"pull"}, "pull"},
		{"load nonsense", []string{"load", "-i", notArchive}, notArchive},
		{"save what is not here", []string{"save", "nowhere.invalid/x", "-o", filepath.Join(dir, "out")}, "nowhere.invalid/x"},
		{"unknown command", []string{"nosuch"}, "nosuch"},
		{"unknown container", []string{"stop", "nobody"}, "nobody"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := *n
			in.t = t
			r := in.berth(c.args...)
			if r.code != 125 {
				t.Errorf("exit status %d, want 125", r.code)
			}
			if r.stdout != "" {
				t.Errorf("standard output %q", r.stdout)
			}
			message := strings.TrimSuffix(r.stderr, "\n")
			if !strings.HasPrefix(message, "berth: ") || strings.Contains(message, "\n") || !strings.Contains(message, c.says) {
				t.Errorf("standard error %q, want one line from berth about %q", r.stderr, c.says)
			}
		})
	}
}
