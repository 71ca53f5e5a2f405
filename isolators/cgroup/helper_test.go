package cgroup_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/cgroup"
	"github.com/berth-dev/berth/isolators/isolatortest"
)

// patience bounds everything that a test waits for.
const patience = 20 * time.Second

// unified is whether this machine has version 2 only.
func unified(tb testing.TB) bool {
	tb.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(cgroup.DefaultRoot, &fs); err != nil {
		tb.Fatal(err)
	}
	return fs.Type == unix.CGROUP2_SUPER_MAGIC
}

func requireRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("control groups need root")
	}
}

// roots are the roots of the hierarchies.
func roots(tb testing.TB) []string {
	tb.Helper()
	if unified(tb) {
		return []string{cgroup.DefaultRoot}
	}
	dirs, err := filepath.Glob(cgroup.DefaultRoot + "/*")
	if err != nil {
		tb.Fatal(err)
	}
	return dirs
}

// newParent returns the path of a group for one test, gone after it with
// everything below it.
func newParent(tb testing.TB) string {
	tb.Helper()
	requireRoot(tb)
	parent := "/berthtest-" + strconv.Itoa(os.Getpid()) + "-" + strings.NewReplacer("/", "-", ".", "-").Replace(tb.Name())
	tb.Cleanup(func() {
		for _, root := range roots(tb) {
			removeAll(tb, root+parent)
		}
	})
	return parent
}

// removeAll removes a group and those below it.
func removeAll(tb testing.TB, dir string) {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	for _, e := range entries {
		if e.IsDir() {
			removeAll(tb, filepath.Join(dir, e.Name()))
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		tb.Errorf("remove test group: %v", err)
	}
}

func newIsolator(tb testing.TB, o cgroup.Options) *cgroup.Isolator {
	tb.Helper()
	iso, err := cgroup.New(o)
	if err != nil {
		tb.Fatalf("New(%+v) = %v", o, err)
	}
	return iso
}

// prepared is a container that Prepare was called for; it is cleaned up after the
// test.
func prepared(t *testing.T, iso *cgroup.Isolator, spec *containerizer.Spec) *isolatortest.Fixture {
	t.Helper()
	f := isolatortest.NewContainer(t, spec)
	prepare(t, iso, f)
	return f
}

func prepare(t *testing.T, iso *cgroup.Isolator, f *isolatortest.Fixture) {
	t.Helper()
	info, err := iso.Prepare(t.Context(), f.Container)
	if err != nil {
		t.Fatalf("Prepare(%s) = %v", f.ID, err)
	}
	f.Launch = info
	t.Cleanup(func() { clean(t, iso, f) })
}

func clean(tb testing.TB, iso *cgroup.Isolator, f *isolatortest.Fixture) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), patience)
	defer cancel()
	if err := iso.Cleanup(ctx, f.Container); err != nil {
		tb.Errorf("Cleanup(%s) = %v", f.ID, err)
	}
}

// script starts sh in the groups of f, as the launcher would: cloned into the
// group, or moving itself.
func script(t *testing.T, f *isolatortest.Fixture, text string) *exec.Cmd {
	t.Helper()
	return scriptTo(t, f, text, nil)
}

// ready starts a script and returns once it has printed "ready".
func ready(t *testing.T, f *isolatortest.Fixture, text string) *exec.Cmd {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	cmd := scriptTo(t, f, text, w)
	_ = w.Close()
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var line [6]byte
	if _, err := r.Read(line[:]); err != nil {
		t.Fatalf("wait for the script to get ready: %v", err)
	}
	return cmd
}

func scriptTo(t *testing.T, f *isolatortest.Fixture, text string, out *os.File) *exec.Cmd {
	t.Helper()
	var move strings.Builder
	for _, dir := range f.Launch.Cgroup.Legacy {
		move.WriteString("echo 0 > '" + dir + "/tasks' || exit 99\n")
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "/bin/sh", "-c", move.String()+text)
	cmd.Stderr = os.Stderr
	if out != nil {
		cmd.Stdout = out
	}
	if dir := f.Launch.Cgroup.Unified; dir != "" {
		fd, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = fd.Close() }()
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(fd.Fd())}
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start a process in %+v: %v", f.Launch.Cgroup, err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// groupDirs are all directories of f's groups.
func groupDirs(f *isolatortest.Fixture) []string {
	if u := f.Launch.Cgroup.Unified; u != "" {
		return []string{u}
	}
	return f.Launch.Cgroup.Legacy
}

// control reads a control file of f, whichever hierarchy it is in.
func control(t *testing.T, f *isolatortest.Fixture, file string) string {
	t.Helper()
	for _, dir := range groupDirs(f) {
		if b, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
			return strings.TrimSpace(string(b))
		}
	}
	t.Fatalf("no group of %s has the file %q", f.ID, file)
	return ""
}

// eventually waits until condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("it did not happen that %s", what)
		}
		wait, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond)
		<-wait.Done()
		cancel()
	}
}
