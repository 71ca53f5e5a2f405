package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// reads asks a daemon that has something hung in it: all questions are answered, about
// what hangs as well.
func (n *node) reads(running, state string) {
	n.t.Helper()
	const hung = "held-up"
	if got := n.must("ps", "-a", "--format", "{{.Names}} {{.State}}"); !strings.Contains(got, hung+" "+state) {
		n.t.Errorf("ps shows %q, want %q %s", got, hung, state)
	}
	if got := n.inspect(hung, "{{.Name}}"); strings.TrimPrefix(got, "/") != hung {
		n.t.Errorf("inspect shows %q", got)
	}
	n.must("info")
	n.must("images")
	n.must("stats", "--no-stream", running)
	if got := n.must("logs", running); got != "begun" {
		n.t.Errorf("logs shows %q", got)
	}
}

// unaffected uses another container of such a daemon as well.
func (n *node) unaffected(running, state string) {
	n.t.Helper()
	n.reads(running, state)
	if got := n.watchEvents(running); !strings.Contains(got, `"`) {
		n.t.Errorf("events shows %q", got)
	}
	if got := n.must("exec", running, "echo", "there"); got != "there" {
		n.t.Errorf("exec says %q", got)
	}
}

// begun starts a container that has nothing to do with what hangs.
func (n *node) begun(flags ...string) string {
	n.t.Helper()
	id := n.detached(flags, "sh", "-c", "echo begun; exec sleep 1000")
	eventually(n.t, func() string {
		if got := n.must("logs", id); got != "begun" {
			return "logs shows " + got
		}
		return ""
	})
	return id
}

// listed waits until ps shows a name and a state.
func (n *node) listed(what string) {
	n.t.Helper()
	eventually(n.t, func() string {
		if got := n.must("ps", "-a", "--format", "{{.Names}} {{.State}}"); !strings.Contains(got, what) {
			return "ps shows " + got
		}
		return ""
	})
}

// others starts and removes other containers meanwhile.
func (n *node) others() {
	n.t.Helper()
	n.must(n.run([]string{"--rm"}, "true")...)
	id := n.must(n.run([]string{"-d"}, "sleep", "1000")...)
	n.must("update", "-m", "64m", id)
	n.must("rm", "-f", id)
}

// background starts a command that is expected to hang. wait ends when it has ended.
func (n *node) background(args ...string) (wait func() (string, error)) {
	n.t.Helper()
	cmd := n.command(context.WithoutCancel(n.t.Context()), args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return func() (string, error) {
		n.t.Helper()
		var err error
		eventually(n.t, func() string {
			select {
			case err = <-ended:
				return ""
			default:
				return fmt.Sprintf("berth %q still hangs: %s", args, &out)
			}
		})
		return out.String(), err
	}
}

// TestDaemonHungMount: a file system that does not answer, as a network's would, holds up
// those who use it.
func TestDaemonHungMount(t *testing.T) {
	t.Parallel()
	t.Run("at a launch", func(t *testing.T) {
		n := newNode(t)
		n.serve()
		running := n.begun()
		dir := t.TempDir()
		f := mountFuse(t, dir, true)
		wait := n.background(n.run([]string{"--name", "held-up", "-v", dir + ":/data"}, "ls", "/data")...)
		<-f.asked
		n.listed("held-up preparing")
		n.unaffected(running, "preparing")
		n.others()
		f.end()
		if out, err := wait(); err == nil {
			t.Errorf("a launch with a mount that is gone succeeded: %s", out)
		}
		n.must("rm", "-f", "held-up")
	})
	t.Run("in a container", func(t *testing.T) {
		n := newNode(t)
		n.serve()
		running := n.begun()
		dir := t.TempDir()
		f := mountFuse(t, dir, false)
		hung := n.must(n.run([]string{"-d", "--name", "held-up", "-v", dir + ":/data"}, "sh", "-c", "while [ ! -e /go ]; do sleep 0.1; done; cat /data/file")...)
		f.hang()
		n.must("exec", hung, "touch", "/go")
		<-f.asked
		n.unaffected(running, "running")
		n.must("stats", "--no-stream", hung)
		n.others()
		wait := n.background("rm", "-f", hung) // who waits for such an answer cannot be killed
		n.listed("held-up destroying")
		n.unaffected(running, "destroying")
		f.end()
		if out, err := wait(); err != nil {
			t.Errorf("rm -f of what could not be killed for a while: %v: %s", err, out)
		}
	})
}

// freeze freezes the file system at dir until thaw is called, the test ends, or this
// process does.
func freeze(t *testing.T, dir string) (thaw func()) {
	t.Helper()
	const fifreeze, fithaw = 0xc0045877, 0xc0045878 // linux/fs.h
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	guard := exec.CommandContext(context.WithoutCancel(t.Context()), "sh", "-c", "cat >/dev/null; fsfreeze --unfreeze . 2>/dev/null; true")
	guard.Dir = dir
	guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := guard.StdinPipe()
	if err == nil {
		err = guard.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetInt(fd, fifreeze, 0); err != nil {
		t.Fatal(err)
	}
	thawed := false
	thaw = func() {
		t.Helper()
		if thawed {
			return
		}
		thawed = true
		if err := errors.Join(unix.IoctlSetInt(fd, fithaw, 0), unix.Close(fd), in.Close(), guard.Wait()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(thaw)
	return thaw
}

// ext4 mounts a new file system.
func ext4(t *testing.T) string {
	t.Helper()
	disk, dir := filepath.Join(t.TempDir(), "disk"), t.TempDir()
	if err := errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, 32<<20)); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{{"mkfs.ext4", "-q", disk}, {"mount", "-o", "loop", disk, dir}} {
		out, err := exec.CommandContext(t.Context(), c[0], c[1:]...).CombinedOutput()
		need(t, err == nil, "%q: %v: %s", c, err, out)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// TestDaemonFrozenVolume: who writes to a frozen file system cannot even be killed, and
// that is nobody else's matter.
func TestDaemonFrozenVolume(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.serve()
	running := n.begun()
	dir := ext4(t)
	hung := n.must(n.run([]string{"-d", "--name", "held-up", "-v", dir + ":/data"}, "sh", "-c", "while [ ! -e /go ]; do sleep 0.1; done; echo x > /data/file")...)
	thaw := freeze(t, dir)
	n.must("exec", hung, "touch", "/go")
	pid := n.inspect(hung, "{{.State.Pid}}")
	eventually(t, func() string {
		if b, err := os.ReadFile(filepath.Join("/proc", pid, "stat")); err != nil || !strings.Contains(string(b), ") D ") {
			return fmt.Sprintf("the process does not hang: %s, %v", b, err)
		}
		return ""
	})
	n.unaffected(running, "running")
	n.must("stats", "--no-stream", hung)
	n.others()
	wait := n.background("rm", "-f", hung)
	n.listed("held-up destroying")
	n.unaffected(running, "destroying")
	n.others()
	thaw()
	if out, err := wait(); err != nil {
		t.Errorf("rm -f of what could not be killed for a while: %v: %s", err, out)
	}
	if got := n.must("ps", "-aq", "--no-trunc"); got != running {
		t.Errorf("ps shows %q", got)
	}
}

// TestDaemonFrozenRoot: reads are answered while nothing can be written where the daemon
// keeps images and layers.
func TestDaemonFrozenRoot(t *testing.T) {
	t.Parallel()
	layout, err := busyboxLayout()
	need(t, err == nil && os.Getuid() == 0, "busybox image: %v", err)
	n := bareNode(t, t.TempDir())
	n.smallRoot("ext4")
	t.Cleanup(n.clear)
	n.serve()
	n.image = "oci:" + layout + ":busybox"
	n.must("pull", "-q", n.image)
	running := n.begun()
	thaw := freeze(t, filepath.Join(n.dir, "root"))
	wait := n.background(n.run([]string{"--name", "held-up"}, "true")...)
	n.listed("held-up preparing")
	n.reads(running, "preparing")
	thaw()
	if out, err := wait(); err != nil {
		t.Errorf("the launch ended as %v: %s", err, out)
	}
	n.must("rm", "held-up")
}

// TestDaemonHungPlugins: a CNI plug-in and a hook that do not answer hold up the launch
// that asked them.
func TestDaemonHungPlugins(t *testing.T) {
	t.Parallel()
	t.Run("CNI", func(t *testing.T) {
		n := newNode(t)
		dir := t.TempDir()
		asked := filepath.Join(dir, "asked")
		for name, text := range map[string]string{
			"hangs":         "#!/bin/sh\n[ \"$CNI_COMMAND\" = ADD ] || exit 0\necho $$ > " + asked + "\nexec sleep 1000\n",
			"net.d/10.conf": `{"cniVersion": "1.0.0", "name": "hangs", "type": "hangs"}`,
		} {
			path := filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o700)); err != nil { //nolint:gosec // a program
				t.Fatal(err)
			}
		}
		n.configure(fmt.Sprintf("[network]\nconf_dir = %q\nplugin_dirs = [%q]\n", filepath.Join(dir, "net.d"), dir))
		n.serve()
		n.heldUp([]string{"--network", "hangs"}, asked)
	})
	t.Run("hook", func(t *testing.T) {
		h := newHooked(t)
		h.serve()
		h.add("hangs", `{"annotations": {"^hang$": "^yes$"}}`, "createRuntime", "echo $$ > "+h.said+"; exec sleep 1000")
		h.heldUp([]string{"--annotation", "hang=yes"}, h.said)
	})
}

// heldUp starts a container with flags that make something hang, which writes its pid to
// asked, and looks that nobody else is affected and that it can be removed.
func (n *node) heldUp(flags []string, asked string) {
	n.t.Helper()
	running := n.begun("--network", "none")
	wait := n.background(n.run(append(flags, "--name", "held-up"), "true")...)
	var pid int
	eventually(n.t, func() string {
		b, _ := os.ReadFile(asked) // not yet
		if _, err := fmt.Sscan(string(b), &pid); err != nil {
			return "nobody hangs"
		}
		return ""
	})
	n.unaffected(running, "preparing")
	n.must(n.run([]string{"--rm", "--network", "none"}, "true")...)
	n.must("rm", "-f", "held-up")
	if out, err := wait(); err == nil {
		n.t.Errorf("a launch that was destroyed succeeded: %s", out)
	}
	eventually(n.t, func() string {
		if err := syscall.Kill(pid, 0); err == nil {
			return "what hangs lives on"
		}
		return ""
	})
}
