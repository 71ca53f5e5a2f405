package pull

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// contender pulls images into a root of its own.
type contender interface {
	Name() string
	// Open prepares a new root in the empty directory dir.
	Open(ctx context.Context, dir string) (session, error)
}

// session is a root that is in use.
type session interface {
	// Pull is the command that pulls and unpacks an image.
	Pull(ref string) []string
	// Remove is the command that removes an image.
	Remove(ref string) []string
	// Settle waits for what commands left to be done in the background.
	Settle(ctx context.Context) error
	// Daemon is the process that does the work for the command; 0 is the command itself.
	Daemon() int
	Close() error
}

// berth pulls by itself.
type berth struct{ path string }

// Name is that of the command.
func (*berth) Name() string { return "berth" }

// Open prepares a new root.
func (b *berth) Open(_ context.Context, dir string) (session, error) {
	global := []string{b.path, "--root", dir + "/root", "--state", dir + "/state"}
	return &command{global: global, pull: []string{"pull", "-q"}, dir: dir}, nil
}

// podman pulls by itself.
type podman struct{ path string }

// Name is that of the command.
func (*podman) Name() string { return "podman" }

// Open prepares a new root.
func (p *podman) Open(_ context.Context, dir string) (session, error) {
	global := []string{
		p.path, "--root", dir + "/root", "--runroot", dir + "/run", "--tmpdir", dir + "/tmp", "--storage-driver", "overlay", "--events-backend", "none",
	}
	return &command{global: global, pull: []string{"pull", "-q", "--tls-verify=false"}, dir: dir}, nil
}

// command is a session without a daemon.
type command struct {
	global, pull []string
	dir          string
}

// Pull is the command that pulls.
func (c *command) Pull(ref string) []string { return slices.Concat(c.global, c.pull, []string{ref}) }

// Remove is the command that removes.
func (c *command) Remove(ref string) []string {
	return slices.Concat(c.global, []string{"rmi", "-f", ref})
}

// Settle waits until no process has the session's directory among its arguments.
func (c *command) Settle(ctx context.Context) error {
	for range 600 {
		found, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			return err
		}
		busy := slices.ContainsFunc(found, func(path string) bool {
			b, err := os.ReadFile(path)
			return err == nil && bytes.Contains(b, []byte(c.dir+"/"))
		})
		if !busy {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return fmt.Errorf("there is still a process for %q", c.dir)
}

// Daemon is none.
func (*command) Daemon() int { return 0 }

// Close does nothing.
func (*command) Close() error { return nil }

// containerd is an instance of our own, with ctr as its client.
type containerd struct{ path, ctr string }

// Name is that of the command.
func (*containerd) Name() string { return "containerd" }

// Open prepares a new root.
func (c *containerd) Open(ctx context.Context, dir string) (session, error) {
	s := &daemon{ctr: c.ctr, socket: filepath.Join(dir, "sock")}
	conf := filepath.Join(dir, "config.toml")
	text := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = %q
[plugins."io.containerd.internal.v1.opt"]
  path = %q
`, dir+"/root", dir+"/state", s.socket, dir+"/opt")
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // the daemon's
	s.cmd = exec.CommandContext(ctx, c.path, "--config", conf)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	for range 100 {
		if exec.CommandContext(ctx, c.ctr, "-a", s.socket, "version").Run() == nil {
			return s, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil, errors.Join(fmt.Errorf("containerd does not answer; its log is in %s", log.Name()), s.Close())
}

type daemon struct {
	ctr, socket string
	cmd         *exec.Cmd
}

// Pull is the command that asks the daemon.
func (d *daemon) Pull(ref string) []string {
	return []string{d.ctr, "-a", d.socket, "-n", "bench", "images", "pull", "--plain-http", "--snapshotter", "overlayfs", ref}
}

// Remove is the command that asks the daemon, which deletes in the background.
func (d *daemon) Remove(ref string) []string {
	return []string{d.ctr, "-a", d.socket, "-n", "bench", "images", "rm", ref}
}

// Settle gives the daemon time to collect garbage, which it does not tell of.
func (*daemon) Settle(ctx context.Context) error {
	select {
	case <-time.After(time.Second):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Daemon is its process.
func (d *daemon) Daemon() int { return d.cmd.Process.Pid }

// Close ends it.
func (d *daemon) Close() error {
	_ = d.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = d.cmd.Wait()                          // says that it was a signal
	return nil
}
