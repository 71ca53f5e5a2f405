package e2e_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDaemonUnderServiceManager: the socket is the service manager's (sd_listen_fds(3)),
// which hears when the daemon is ready, reloads and ends (sd_notify(3)).
func TestDaemonUnderServiceManager(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	state := filepath.Join(n.dir, "state")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(state, "berth.sock"))
	if err != nil {
		t.Fatal(err)
	}
	unix, _ := listener.(*net.UnixListener)
	t.Cleanup(func() {
		_ = unix.Close()                                   // with its file
		_ = os.Remove(filepath.Join(state, "berthd.lock")) // stays, as other locks do
	})
	file, err := unix.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()                            //nolint:errcheck // a duplicate
	dir, err := os.MkdirTemp("", "berth-notify-") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // a temporary directory
	told, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "unixgram", filepath.Join(dir, "notify"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = told.Close() }) // only read
	hears := func(want string) {
		t.Helper()
		if err := told.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4096)
		for {
			k, _, err := told.ReadFrom(b)
			if err != nil {
				t.Fatalf("waiting for %s: %v", want, err)
			}
			if strings.Contains(string(b[:k]), want) {
				return
			}
		}
	}
	for range 2 { // a restart
		waiting := make(chan string, 1)
		go func() { // a call that comes before the daemon waits in the socket
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			out, err := n.command(ctx, "info", "--format", "{{.Daemon}}").CombinedOutput()
			if err != nil {
				out = append(out, err.Error()...)
			}
			waiting <- string(out)
		}()
		d := exec.CommandContext(t.Context(), "/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, binary(t, "berthd"), //nolint:gosec // of the build
			"--config", n.configPath(), "--root", filepath.Join(n.dir, "root"), "--state", state)
		d.Env = append(os.Environ(), "LISTEN_FDS=1", "NOTIFY_SOCKET="+filepath.Join(dir, "notify"))
		d.ExtraFiles = []*os.File{file}
		if err := d.Start(); err != nil {
			t.Fatal(err)
		}
		hears("READY=1")
		if out := <-waiting; !strings.Contains(out, "berthd") {
			t.Errorf("the call that came first: %s", out)
		}
		_ = d.Process.Signal(syscall.SIGHUP) // heard below
		hears("RELOADING=1")
		hears("READY=1")
		_ = d.Process.Signal(syscall.SIGTERM) // heard below
		hears("STOPPING=1")
		if err := d.Wait(); err != nil {
			t.Errorf("the daemon ended with %v", err)
		}
		if _, err := os.Lstat(filepath.Join(state, "berth.sock")); err != nil {
			t.Errorf("the socket of the service manager: %v", err)
		}
	}
}
