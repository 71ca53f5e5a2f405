package e2e_test

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
	"sync"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/api"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/test/fixtures"
)

// patience bounds every single command of a test.
const patience = 60 * time.Second

// busyboxLayout is an image layout with the image "busybox", made once.
var busyboxLayout = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(sharedDir, "busybox")
	image, err := fixtures.BusyboxImage()
	if err != nil {
		return "", err
	}
	return dir, fixtures.WriteLayout(dir, "busybox", image)
})

// sharedDir is what all tests share; TestMain makes and removes it.
var sharedDir string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if os.Getenv(api.PluginNameEnvVar) != "" { // started by a daemon, as its plug-in
			return runInstalled()
		}
		dir, err := os.MkdirTemp("", "berth-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }() // a temporary directory
		sharedDir = dir
		return m.Run()
	}())
}

// binary finds a program of the build.
func binary(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("BERTH_BIN")
	if dir == "" {
		dir = filepath.Join("..", "..", "bin")
	}
	path, err := filepath.Abs(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	_, err = os.Stat(path)
	need(t, err == nil, "%s is not there (make build makes it)", path)
	return path
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
	t      *testing.T
	path   string // of bin/berth
	dir    string
	image  string
	parent string  // of control groups, without a leading slash
	daemon *berthd // the last one that was started, if any
	// What was there after the first container, and stays.
	before     files
	keptGroups []string
}

// newNode makes a node with the busybox image pulled and one container run, so that
// what stays for good is there already. When the test ends, nothing else may be.
func newNode(t *testing.T) *node {
	t.Helper()
	need(t, os.Getuid() == 0, "running containers needs root")
	layout, err := busyboxLayout()
	need(t, err == nil, "busybox image: %v", err)
	n := bareNode(t, t.TempDir())
	t.Cleanup(n.clear)                                                                     // also when the next lines fail
	if os.Getenv("BERTH_E2E_DAEMON") != "" && !strings.HasPrefix(t.Name(), "TestDaemon") { // the same tests, over berthd
		n.serve()
	}
	n.image = "oci:" + layout + ":busybox"
	n.must("pull", "-q", n.image)
	n.must(n.run([]string{"--rm", "-p", "80", "-v", "warm-up:/v"}, "true")...)
	n.must("volume", "rm", "warm-up")
	n.before, n.keptGroups = listFiles(t, n.dir), n.groups()
	t.Cleanup(n.checkNothingLeft)
	return n
}

// bareNode is a node over dir without images.
func bareNode(t *testing.T, dir string) *node {
	t.Helper()
	n := &node{t: t, path: binary(t, "berth"), dir: dir, parent: "berth-e2e-" + filepath.Base(filepath.Dir(dir)) + filepath.Base(dir)}
	config := fmt.Sprintf("[cgroup]\nparent = \"/%s\"\n[registries]\ninsecure = [\"localhost\"]\n", n.parent)
	if err := os.WriteFile(n.configPath(), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) configPath() string { return filepath.Join(n.dir, "config.toml") }

// command is berth on this node, not started.
func (n *node) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, n.path, append([]string{
		"--config", n.configPath(), "--root", filepath.Join(n.dir, "root"), "--state", filepath.Join(n.dir, "state"),
	}, args...)...)
	// What stays in the background must not hold on to our pipes.
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// result is how a command of berth ended.
type result struct {
	stdout, stderr string
	code           int
}

// berth runs a command with input "".
func (n *node) berth(args ...string) result {
	n.t.Helper()
	return n.with("", args...)
}

// with runs a command with input on its standard input.
func (n *node) with(input string, args ...string) result {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	cmd := n.command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited || ctx.Err() != nil {
		n.t.Fatalf("berth %q: %v (%v)\nstdout: %s\nstderr: %s", args, err, ctx.Err(), &stdout, &stderr)
	}
	return result{stdout: stdout.String(), stderr: stderr.String(), code: cmd.ProcessState.ExitCode()}
}

// must runs a command that succeeds and returns its output without the last newline.
func (n *node) must(args ...string) string {
	n.t.Helper()
	r := n.berth(args...)
	if r.code != 0 {
		n.t.Fatalf("berth %q: exit status %d\nstdout: %s\nstderr: %s", args, r.code, r.stdout, r.stderr)
	}
	return strings.TrimSuffix(r.stdout, "\n")
}

// run is the arguments of "berth run" with flags, the busybox image and a command.
func (n *node) run(flags []string, command ...string) []string {
	return slices.Concat([]string{"run"}, flags, []string{n.image}, command)
}

// sh runs a shell script in a container that is removed, and must succeed.
func (n *node) sh(script string, flags ...string) string {
	n.t.Helper()
	return n.must(n.run(append([]string{"--rm"}, flags...), "sh", "-c", script)...)
}

// detached starts a container in the background and removes it when the test ends.
func (n *node) detached(flags []string, command ...string) string {
	n.t.Helper()
	id := n.must(n.run(append([]string{"-d"}, flags...), command...)...)
	n.t.Cleanup(func() { n.remove(id) })
	return id
}

// remove is for clean-up, when the test's context has ended.
func (n *node) remove(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := n.command(ctx, "rm", "-f", id)
	if out, err := cmd.CombinedOutput(); err != nil {
		n.t.Errorf("berth rm -f %s: %v\n%s", id, err, out)
	}
}

// inspect returns a field of a container by a template.
func (n *node) inspect(id, template string) string {
	n.t.Helper()
	return n.must("inspect", "--format", template, id)
}

// eventually waits until check returns "", and fails with what it returns when that
// takes too long.
func eventually(t *testing.T, check func() string) {
	t.Helper()
	const limit, step = patience, 10 * time.Millisecond
	var last string
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(step) {
		if last = check(); last == "" {
			return
		}
	}
	t.Errorf("after %s: %s", limit, last)
}

// terminal is a pseudo-terminal: controller is the end that a person would hold.
func terminal(t *testing.T) (controller, tty *os.File) {
	t.Helper()
	controller, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = controller.Close() }) // a test may have closed it
	number, err := unix.IoctlGetInt(int(controller.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(controller.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tty.Close() }) // as above
	return controller, tty
}

// transcript collects what is read from r until it ends.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
	done chan struct{}
}

func transcribe(r io.Reader) *transcript {
	s := &transcript{done: make(chan struct{})}
	go func() {
		defer close(s.done)
		_, _ = io.Copy(s, r) // a terminal ends with EIO
	}()
	return s
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// await waits until the text contains what.
func (s *transcript) await(t *testing.T, what string) {
	t.Helper()
	eventually(t, func() string {
		if text := s.String(); !strings.Contains(text, what) {
			return fmt.Sprintf("no %q in %q", what, text)
		}
		return ""
	})
}
