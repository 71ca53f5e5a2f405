package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The main job on real input: a Debian root filesystem, made from Debian's packages,
// becomes an image, goes through Debian's registry and is run in all the ways that
// people run containers. It takes about two minutes, most of them mmdebstrap's.
func TestDebian(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	// buildah makes an image name of the path, which must be lower-case then.
	dir, err := os.MkdirTemp("", "berth-debian-") //nolint:usetesting // t.TempDir has capitals in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	layout := debianLayout(t, dir)
	registry := startRegistry(t, dir)
	reference := registry + "/debian:test"
	tool(t, dir, "skopeo", "copy", "--dest-tls-verify=false", "oci:"+layout+":debian", "docker://"+reference)

	n.must("pull", "-q", reference)
	n.image = reference
	n.before, n.keptGroups = listFiles(t, n.dir), n.groups()
	n.play(t, []scenario{
		{name: "apt-get", command: []string{"apt-get", "--version"}, want: `apt \d.*`},
		{name: "dynamic linking and locale", command: sh(". /etc/os-release; echo $ID"), want: "debian"},
		{
			name:  "a compile with limits",
			flags: []string{"--memory", "256m", "--cpus", "1", "--pids-limit", "50"},
			command: sh(`cd /tmp && printf 'int puts(const char *);\nint main(void) { puts("compiled"); return 0; }\n' > a.c &&
				gcc -O2 -o a a.c && ./a`),
			want: "compiled",
		},
		{name: "user namespace", flags: []string{"--userns", "private"}, command: sh("stat -c %u:%g /etc/shadow; touch /x && stat -c %u /x"), want: "0:42\n0"},
		{name: "image user", flags: []string{"-u", "www-data"}, command: []string{"id", "-un"}, want: "www-data"},
		{
			name: "out of memory", flags: []string{"--memory", "32m", "--memory-swap", "32m"},
			command: []string{"perl", "-e", `my $x = "x" x 200_000_000`}, code: 137, stderr: "^berth: .*out of memory",
		},
		{name: "package scripts", command: sh("dpkg --audit && dpkg-query -W -f '${Status}\n' gcc"), want: "install ok installed"},
	})
	t.Run("service through a published port", func(t *testing.T) { in := *n; in.t = t; in.serveDebian() })
	t.Run("terminal session", func(t *testing.T) { in := *n; in.t = t; in.typeDebian() })
	t.Run("images of other tools", func(t *testing.T) { in := *n; in.t = t; in.otherTools(dir, layout) })
	n.before, n.keptGroups = listFiles(t, n.dir), n.groups()
}

// tool runs a program of another project.
func tool(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	need(t, err == nil, "%s is not installed (.ci/packages test installs it)", name)
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// debianLayout makes an OCI image layout with the image "debian" from the package
// mirrors that this machine uses, with umoci.
func debianLayout(t *testing.T, dir string) string {
	t.Helper()
	tarball, layout := filepath.Join(dir, "debian.tar"), filepath.Join(dir, "layout")
	// gcc for the compile, perl-base is essential anyway.
	tool(t, dir, "mmdebstrap", "--quiet", "--variant=apt", "--include=gcc,libc6-dev", "--aptopt=APT::Install-Recommends false",
		"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/man/*",
		codename(t), tarball)
	rootfs := filepath.Join(dir, "bundle", "rootfs")
	tool(t, dir, "umoci", "init", "--layout", layout)
	tool(t, dir, "umoci", "new", "--image", layout+":debian")
	tool(t, dir, "umoci", "unpack", "--image", layout+":debian", filepath.Dir(rootfs))
	tool(t, dir, "tar", "-C", rootfs, "--numeric-owner", "-xpf", tarball)
	tool(t, dir, "umoci", "repack", "--image", layout+":debian", filepath.Dir(rootfs))
	tool(t, dir, "umoci", "config", "--image", layout+":debian", "--config.cmd", "bash",
		"--config.env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "--config.stopsignal", "SIGINT")
	if err := os.RemoveAll(filepath.Join(dir, "bundle")); err != nil {
		t.Fatal(err)
	}
	return layout
}

// codename is the Debian release of this machine.
func codename(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
			return name
		}
	}
	need(t, false, "this machine is no Debian release: no VERSION_CODENAME in /etc/os-release")
	return ""
}

// serveDebian runs a service written in the image's own perl, with limits.
func (n *node) serveDebian() {
	n.t.Helper()
	const server = `use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalPort => 8000, Listen => 5, ReuseAddr => 1) or die $!;
		while (my $c = $s->accept) { while (<$c>) { last if /^\r?$/ } print $c "HTTP/1.0 200 OK\r\n\r\nhello from debian\n"; close $c }`
	port := freePort(n.t)
	n.detached([]string{"-p", fmt.Sprintf("127.0.0.1:%d:8000", port), "--memory", "64m"}, "perl", "-e", server)
	if got := get(n.t, fmt.Sprintf("http://127.0.0.1:%d/", port)); got != "hello from debian\n" {
		n.t.Errorf("got %q", got)
	}
}

// typeDebian is a person at a shell.
func (n *node) typeDebian() {
	n.t.Helper()
	cmd, typed, seen := n.onTerminal("run", "--rm", "-it", n.image)
	if _, err := typed.WriteString("PS1=; tty; echo $((6 * 7)) by $BASH_VERSION\n"); err != nil {
		n.t.Fatal(err)
	}
	seen.await(n.t, "42 by 5")
	if _, err := typed.WriteString("exit 3\n"); err != nil {
		n.t.Fatal(err)
	}
	_ = cmd.Wait() // the status is looked at
	if got := cmd.ProcessState.ExitCode(); got != 3 {
		n.t.Errorf("exit status %d; the terminal showed\n%s", got, seen)
	}
}

// otherTools runs the image in the forms that skopeo and buildah write.
func (n *node) otherTools(dir, layout string) {
	n.t.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	tool(n.t, dir, "skopeo", "copy", "oci:"+layout+":debian", "docker-archive:"+at("docker.tar")+":debian:archive")
	tool(n.t, dir, "skopeo", "copy", "oci:"+layout+":debian", "oci-archive:"+at("oci.tar")+":debian")
	tool(n.t, dir, "skopeo", "copy", "--dest-compress-format", "zstd", "--dest-compress", "oci:"+layout+":debian", "oci:"+at("zstd")+":debian")
	storage := []string{"--root", at("storage"), "--runroot", at("storage-run"), "--storage-driver", "vfs"}
	if err := os.WriteFile(at("Containerfile"), []byte("FROM oci:"+layout+":debian\nENV BUILT=by-buildah\nUSER www-data\n"), 0o600); err != nil {
		n.t.Fatal(err)
	}
	tool(n.t, dir, "buildah", append(storage, "bud", "--isolation", "chroot", "-t", "built", "-f", at("Containerfile"), dir)...)
	tool(n.t, dir, "buildah", append(storage, "push", "built", "oci:"+at("buildah")+":built")...)
	for _, c := range []struct{ reference, want string }{
		{"docker-archive:" + at("docker.tar") + ":debian:archive", "root"},
		{"oci-archive:" + at("oci.tar") + ":debian", "root"},
		{"oci:" + at("zstd") + ":debian", "root"},
		{"oci:" + at("buildah") + ":built", "www-data by-buildah"},
	} {
		if got := n.must("run", "--rm", c.reference, "sh", "-c", "echo $(id -un) $BUILT"); got != c.want {
			n.t.Errorf("%s: got %q, want %q", c.reference, got, c.want)
		}
	}
}
