package security_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/test/fixtures"
)

// A path of the image that leads up from the root ends at the container's root,
// whoever looks it up: CVE-2024-21626 and CVE-2022-23648 by other means.
func TestLinksUp(t *testing.T) {
	n := newNode(t)
	for _, up := range []string{"/..", "/../..", "../../../../../..", "/proc/../..", "/dev/../.."} {
		for name, flags := range map[string]func(path string) []string{
			"working directory": func(p string) []string { return []string{"-w", p} },
			"volume":            func(p string) []string { return []string{"-v", n.path("config.toml") + ":" + p + "/made"} },
			"named volume":      func(p string) []string { return []string{"-v", "vol:" + p + "/made"} },
			"tmpfs":             func(p string) []string { return []string{"--tmpfs", p + "/made"} },
			"device":            func(p string) []string { return []string{"--device", "/dev/null:" + p + "/made"} },
			"terminal and init": func(p string) []string { return []string{"-t", "--init", "-w", p + "/made"} },
		} {
			t.Run(name+" "+up, func(t *testing.T) {
				n := n.in(t)
				host := t.TempDir()
				if err := os.WriteFile(filepath.Join(host, "secret"), []byte("secret"), 0o600); err != nil {
					t.Fatal(err)
				}
				rootfs := n.rootfs(fixtures.Symlink("up", up))
				r := n.sh(rootfs, "cat secret ../secret "+host+"/secret 2>/dev/null; :", flags("/up"+host)...)
				if r.stdout != "" || r.code != 0 {
					t.Errorf("the container should see nothing of the host: %+v", r)
				}
				left, err := os.ReadDir(host)
				if err != nil || len(left) != 1 {
					t.Errorf("on the host the image has made %v, %v", left, err)
				}
			})
		}
	}
	n.run("volume", "rm", "vol")
}

// The working directory and the command are no descriptors of the launch
// (CVE-2024-21626).
func TestDescriptorPaths(t *testing.T) {
	n := newNode(t)
	rootfs := n.rootfs(fixtures.Symlink("fd", "/proc/self/fd/4"), fixtures.Symlink("thread", "/proc/thread-self/fd/5"), fixtures.Symlink("root", "/proc/self/root"))
	id := n.start(rootfs, nil, "sleep", "100")
	paths := []string{"/fd", "/thread", "/fd/../..", "/proc/1/root/..", "/proc/self/cwd"}
	for i := range 12 {
		paths = append(paths, fmt.Sprintf("/proc/self/fd/%d", i), fmt.Sprintf("/proc/1/fd/%d/..", i))
	}
	for _, p := range paths {
		t.Run(p, func(t *testing.T) {
			n := n.in(t)
			if r := n.run(once(rootfs, []string{"-w", p}, "pwd")...); r.code != 125 {
				t.Errorf("as working directory: %+v", r)
			}
			if r := n.run("exec", "-w", p, id, "pwd"); r.code != 125 && r.code != 126 && r.code != 127 {
				t.Errorf("as working directory of an exec: %+v", r)
			}
			if r := n.run(once(rootfs, nil, p)...); r.code != 126 && r.code != 127 {
				t.Errorf("as command: %+v", r)
			}
		})
	}
}

// The working directory of an image's configuration is treated as one of the user.
func TestImageConfiguration(t *testing.T) {
	n := newNode(t)
	host := t.TempDir()
	files, err := fixtures.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	layer, err := fixtures.Layer(append(files, fixtures.Symlink("up", "/.."))...)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		config v1.Config
		code   int
	}{
		"directory of the host":   {v1.Config{WorkingDir: "/up" + host + "/made"}, 0},
		"descriptor":              {v1.Config{WorkingDir: "/proc/self/fd/7"}, 125},
		"user beyond the last id": {v1.Config{User: "4294967296"}, 125},
		"user that overflows":     {v1.Config{User: "2147483648:4294967295"}, 125},
		"user with a line break":  {v1.Config{User: "root\nx"}, 125},
		"volume of the host":      {v1.Config{Volumes: map[string]struct{}{"/up" + host + "/made": {}}}, 0},
		"volume on proc":          {v1.Config{Volumes: map[string]struct{}{"/proc": {}}}, -1},
		"variable of the loader":  {v1.Config{Env: []string{"LD_PRELOAD=/evil.so", "GODEBUG=x", "PATH=/bin"}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			n := n.in(t)
			c.config.Cmd = []string{"sh", "-c", "pwd; ls ../../../.."}
			image, err := fixtures.Image(c.config, layer)
			if err != nil {
				t.Fatal(err)
			}
			layout := filepath.Join(t.TempDir(), "layout")
			if err := fixtures.WriteLayout(layout, "x", image); err != nil {
				t.Fatal(err)
			}
			r := n.run("run", "--rm", "--network", "none", "oci:"+layout+":x")
			if c.code >= 0 && r.code != c.code {
				t.Errorf("got %+v, want code %d", r, c.code)
			}
			if left, err := os.ReadDir(host); err != nil || len(left) > 0 {
				t.Errorf("on the host the image has made %v, %v", left, err)
			}
			if strings.Contains(r.stdout, "lost+found") || strings.Contains(r.stdout, "boot") {
				t.Errorf("the container sees the host: %+v", r)
			}
		})
	}
}

// An image that makes the places of the launch's own mounts something else is refused,
// or gets what it asks for inside (CVE-2025-31133, CVE-2025-52565, CVE-2026-41579).
func TestHostilePlaces(t *testing.T) {
	n := newNode(t)
	host := t.TempDir()
	for name, c := range map[string]struct {
		file fixtures.File
		code int // 0: it runs, and is confined
	}{
		"proc is a link":             {fixtures.Symlink("proc", "/tmp"), 125},
		"proc is a link to itself":   {fixtures.Symlink("proc", "proc"), 125},
		"proc is a file":             {fixtures.Text("proc", "x"), 125},
		"sys is a link":              {fixtures.Symlink("sys", "/tmp"), 125},
		"dev is a link":              {fixtures.Symlink("dev", "tmp"), 0},
		"dev is a link up":           {fixtures.Symlink("dev", "/.."+host), 125},
		"etc is a link up":           {fixtures.Symlink("etc", "/.."+host), 125},
		"null is a link":             {fixtures.Symlink("dev/null", "/proc/sys/kernel/core_pattern"), 0},
		"console is a link":          {fixtures.Symlink("dev/console", "/proc/sys/kernel/core_pattern"), 0},
		"ptmx is a file":             {fixtures.Text("dev/pts/ptmx", "x"), 0},
		"hosts is a link":            {fixtures.Symlink("etc/hosts", "/.."+host+"/made"), 125},
		"resolv.conf is a directory": {fixtures.Dir("etc/resolv.conf"), -1},
	} {
		for _, flags := range [][]string{{}, {"-t"}, {"--userns", "private"}} {
			t.Run(name+strings.Join(flags, " "), func(t *testing.T) {
				n := n.in(t)
				r := n.sh(n.rootfs(c.file), "cat /proc/keys; echo x 2>/dev/null > /proc/sys/kernel/core_pattern && echo written; :", flags...)
				if c.code >= 0 && r.code != c.code {
					t.Errorf("got %+v, want code %d", r, c.code)
				}
				if r.code == 0 && strings.Trim(strings.ReplaceAll(r.stdout, "\r", ""), "\n") != "" && !strings.Contains(r.stdout, "Read-only file system") {
					t.Errorf("the container is not confined: %+v", r)
				}
				if left, err := os.ReadDir(host); err != nil || len(left) > 0 {
					t.Errorf("on the host the image has made %v, %v", left, err)
				}
			})
		}
	}
}

// The user database of an image may be anything (CVE-2026-47262, CVE-2024-9676,
// CVE-2026-46680, CVE-2024-40635).
func TestUserDatabase(t *testing.T) {
	n := newNode(t)
	large := func(t *testing.T, path string) {
		t.Helper()
		if err := os.Truncate(path, 1<<30); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		with func(t *testing.T, passwd string)
		user string
		code int
		want string
	}{
		"pipe": {func(t *testing.T, p string) {
			t.Helper()
			if err := errorsOf(os.Remove(p), unix.Mkfifo(p, 0o644)); err != nil {
				t.Fatal(err)
			}
		}, "app", 125, ""},
		"link to a descriptor": {func(t *testing.T, p string) {
			t.Helper()
			if err := errorsOf(os.Remove(p), os.Symlink("/proc/self/fd/0", p)); err != nil {
				t.Fatal(err)
			}
		}, "app", 125, ""},
		"link to the host": {func(t *testing.T, p string) {
			t.Helper()
			if err := errorsOf(os.Remove(p), os.Symlink("../../../../../../etc/passwd", p)); err != nil {
				t.Fatal(err)
			}
		}, "daemon", 125, ""},
		"gigabyte":            {large, "app", 125, ""},
		"gigabyte for nobody": {large, "5", 125, ""},
		"number as a name":    {text("1000:x:0:0::/:/bin/sh\n"), "1000", 0, "1000 1000"},
		"id beyond the last":  {text("evil:x:4294967296:0::/:/bin/sh\n"), "evil", 125, ""},
		"negative id":         {text("evil:x:-1:0::/:/bin/sh\n"), "evil", 125, ""},
		"too large a number":  {text(""), "4294967296", 125, ""},
		"overflow to root":    {text(""), "18446744073709551616", 125, ""},
		"name that is a path": {text("../x:x:0:0::/:/bin/sh\n"), "../y", 125, ""},
	} {
		t.Run(name, func(t *testing.T) {
			n := n.in(t)
			rootfs := n.rootfs()
			c.with(t, filepath.Join(rootfs, "etc/passwd"))
			if r := n.run(once(rootfs, []string{"-u", c.user}, "/attack", "ids")...); r.code != c.code || r.stdout != c.want {
				t.Errorf("got %+v, want code %d and %q", r, c.code, c.want)
			}
		})
	}
}

func text(s string) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func errorsOf(list ...error) error {
	for _, err := range list {
		if err != nil {
			return err
		}
	}
	return nil
}

// Set-user-id programs of an image give nothing where that was asked for.
func TestSetUserID(t *testing.T) {
	n := newNode(t)
	rootfs := n.rootfs()
	program := filepath.Join(rootfs, "attack")
	copyFile(t, program, program+".new")
	if err := errorsOf(os.Rename(program+".new", program), os.Chmod(program, fs.ModeSetuid|0o755)); err != nil {
		t.Fatal(err)
	}
	for want, flags := range map[string][]string{
		"1000 1000": {"-u", "app", "--security-opt", "no-new-privileges"},
		"1000 0":    {"-u", "app"},
	} {
		if r := n.run(once(rootfs, flags, "/attack", "ids")...); r.stdout != want {
			t.Errorf("%v: %+v, want %q", flags, r, want)
		}
	}
}
