package security_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/test/fixtures"
)

// patience bounds every command.
const patience = 20 * time.Second

// applets are what the root filesystems have of busybox.
const applets = "awk cat chmod cp date dd df echo false find grep head id ln ls mkdir mkfifo mknod mount mv ps pwd readlink rm sh sleep sort stat tail touch true tty umount unshare wc yes"

func TestMain(m *testing.M) {
	if os.Args[0] == "/attack" {
		os.Exit(attack(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// need skips the test when what it needs is missing, but fails in the full run.
func need(t *testing.T, ok bool, format string, args ...any) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv("CI") != "" || os.Getenv("BERTH_BIN") != "":
		t.Fatalf(format, args...)
	default:
		t.Skipf(format, args...)
	}
}

// node is berth with directories of its own.
type node struct {
	t       *testing.T
	berth   string
	monitor string // a copy, which an attack may aim at
	dir     string
	parent  string // of control groups
	// ignoring starts berth with signals ignored, as nohup(1) and systemd do.
	ignoring bool
}

func newNode(t *testing.T) *node {
	t.Helper()
	need(t, os.Getuid() == 0, "running containers needs root")
	_, err := exec.LookPath("busybox")
	need(t, err == nil, "busybox is not installed (the package busybox-static has it)")
	bin := os.Getenv("BERTH_BIN")
	if bin == "" {
		bin = filepath.Join("..", "..", "bin")
	}
	if bin, err = filepath.Abs(bin); err != nil {
		t.Fatal(err)
	}
	_, err = os.Stat(filepath.Join(bin, "berth"))
	need(t, err == nil, "%s/berth is not there (make build makes it)", bin)
	dir := t.TempDir()
	n := &node{
		t: t, berth: filepath.Join(bin, "berth"), monitor: filepath.Join(dir, "berth-monitor"), dir: dir,
		parent: "berth-security-" + filepath.Base(filepath.Dir(dir)),
	}
	copyFile(t, filepath.Join(bin, "berth-monitor"), n.monitor)
	config := fmt.Sprintf("monitor = %q\n[cgroup]\nparent = \"/%s\"\n", n.monitor, n.parent)
	if err := os.WriteFile(n.path("config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.checkNothingLeft)
	return n
}

func (n *node) path(name string) string { return filepath.Join(n.dir, name) }

// in is the node in a subtest.
func (n *node) in(t *testing.T) *node {
	t.Helper()
	m := *n
	m.t = t
	return &m
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil { //nolint:gosec // it is executed
		t.Fatal(err)
	}
}

// rootfs makes a root filesystem of busybox, /attack and more files.
func (n *node) rootfs(more ...fixtures.File) string {
	n.t.Helper()
	dir, err := os.MkdirTemp(n.dir, "rootfs-")
	if err != nil {
		n.t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // what / is in a container
		n.t.Fatal(err)
	}
	replaced := func(f fixtures.File) bool {
		return slices.ContainsFunc(more, func(m fixtures.File) bool {
			return m.Path == f.Path || !m.Mode.IsDir() && strings.HasPrefix(f.Path, m.Path+"/")
		})
	}
	files := append(slices.DeleteFunc(fixtures.Base(), replaced), more...)
	for name := range strings.FieldsSeq(applets) {
		files = append(files, fixtures.Symlink("bin/"+name, "busybox"))
	}
	if err := fixtures.Write(dir, files); err != nil {
		n.t.Fatal(err)
	}
	host, err := exec.LookPath("busybox")
	if err != nil {
		n.t.Fatal(err)
	}
	n.share(host, filepath.Join(dir, "bin/busybox"))
	self, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	n.share(self, filepath.Join(dir, "attack"))
	return dir
}

// share links a copy of a program, made once a node, to a path.
func (n *node) share(program, to string) {
	n.t.Helper()
	cached := n.path("shared-" + filepath.Base(program))
	if _, err := os.Stat(cached); err != nil {
		copyFile(n.t, program, cached)
	}
	if err := os.Link(cached, to); err != nil {
		n.t.Fatal(err)
	}
}

// result is how a command of berth ended.
type result struct {
	stdout, stderr string
	code           int
}

func (n *node) command(ctx context.Context, args ...string) *exec.Cmd {
	args = append([]string{n.berth, "--config", n.path("config.toml"), "--root", n.path("root"), "--state", n.path("state")}, args...)
	if n.ignoring {
		args = append([]string{"sh", "-c", `trap '' HUP INT QUIT PIPE; exec "$@"`, "sh"}, args...)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "BERTH_TEST_SECRET=secret")
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// run runs berth, and fails the test when it hangs.
func (n *node) run(args ...string) result {
	n.t.Helper()
	return n.with(context.WithoutCancel(n.t.Context()), nil, args...)
}

func (n *node) with(ctx context.Context, stdin io.Reader, args ...string) result {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := n.command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited || ctx.Err() != nil {
		n.t.Errorf("berth %.200q: %v (%v)\nstdout: %s\nstderr: %s", args, err, ctx.Err(), &stdout, &stderr)
	}
	return result{strings.TrimSuffix(stdout.String(), "\n"), stderr.String(), cmd.ProcessState.ExitCode()}
}

// once is the arguments of a container in a root filesystem that goes at once.
func once(rootfs string, flags []string, command ...string) []string {
	return slices.Concat([]string{"run", "--rm", "--network", "none"}, flags, []string{"--rootfs", rootfs}, command)
}

// sh runs a script in a container and returns how it ended.
func (n *node) sh(rootfs, script string, flags ...string) result {
	n.t.Helper()
	return n.run(once(rootfs, flags, "sh", "-c", script)...)
}

// start starts a container, which is removed when the test ends.
func (n *node) start(rootfs string, flags []string, command ...string) string {
	n.t.Helper()
	r := n.run(slices.Concat([]string{"run", "-d", "--network", "none"}, flags, []string{"--rootfs", rootfs}, command)...)
	if r.code != 0 {
		n.t.Fatalf("start a container: %+v", r)
	}
	n.t.Cleanup(func() {
		if r := n.run("rm", "-f", r.stdout); r.code != 0 {
			n.t.Errorf("berth rm -f: %+v", r)
		}
	})
	return r.stdout
}

// eventually waits until check returns "".
func eventually(t *testing.T, check func() string) {
	t.Helper()
	var last string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if last = check(); last == "" {
			return
		}
	}
	t.Error(last)
}
