package launcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch"
)

const (
	// hookOutput is how much of what a hook says becomes part of an error.
	hookOutput = 4 << 10
	// hookPipes is how long is waited for the output of a hook that has ended.
	hookPipes = time.Second
)

// hookContext ends when the hook's time is over.
func hookContext(ctx context.Context, hook *specs.Hook) (context.Context, context.CancelFunc) {
	if hook.Timeout == nil {
		return context.WithCancel(ctx)
	}
	limit := time.Duration(*hook.Timeout) * time.Second
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("it did not end within %s and was killed", limit))
}

// runHook runs a hook in the namespaces of this process. It, and what it has started
// in its process group, is killed when ctx ends; it dies with this process.
func runHook(ctx context.Context, hook *specs.Hook, dir string, input []byte) error {
	runtime.LockOSThread() // Pdeathsig is about the thread (prctl(2))
	defer runtime.UnlockOSThread()
	var output tail
	cmd := exec.CommandContext(ctx, hook.Path)
	cmd.Args, cmd.Env = hookArgs(hook), append([]string{}, hook.Env...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, bytes.NewReader(input), &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = hookPipes
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) { // it has left something behind that holds its output
		err = nil
	}
	return output.explain(err)
}

// hookArgs are the arguments of a hook, the first being its name.
func hookArgs(hook *specs.Hook) []string {
	if len(hook.Args) == 0 {
		return []string{hook.Path}
	}
	return hook.Args
}

// enter runs a hook in the namespaces of the container, as an exec session of its
// monitor: a startContainer hook with the process's own confinement, a createContainer
// hook as root, in the host's file tree, with the root filesystem as its directory.
func (h *hookSet) enter(ctx context.Context, kind string, hook *specs.Hook, input []byte) error {
	process := h.c.Spec.Process
	process.Entrypoint, process.Args, process.Env = nil, hookArgs(hook), hook.Env
	process.Terminal, process.Init, process.Stdin, process.StdinOnce = false, false, true, true
	amend := func(cfg *launch.Config) {
		cfg.Process.Path, cfg.Process.Env = hook.Path, hook.Env
	}
	if kind == hookCreateContainer {
		process = containerizer.Process{Args: process.Args, User: "0:0", WorkingDir: "/", Stdin: true, StdinOnce: true, GroupsPolicy: containerizer.GroupsStrict}
		if !joinsUser(h.info) { // whose root cannot reach it by its path
			process.WorkingDir = pivotDir(h.c, h.info)
		}
		amend = func(cfg *launch.Config) {
			cfg.Process.Path, cfg.Process.Env = hook.Path, hook.Env
			p := &cfg.Process
			p.Capabilities, p.NoNewPrivileges, p.AppArmorProfile, p.SELinuxLabel, p.Rlimits = nil, false, "", "", nil
			cfg.Filter, cfg.Available = nil, 0
		}
	}
	var output tail
	m, done, err := h.l.monitor(h.c)
	if err != nil {
		return err
	}
	defer done()
	name := h.c.ID + " " + containerizer.ContainerID(kind) // no container is called so
	p, err := h.l.exec(ctx, m, &containerizer.ExecRequest{
		Container: h.c, Info: h.info, Process: &process, ID: name,
		IO: &containerizer.IO{Stdin: bytes.NewReader(input), Stdout: &output, Stderr: &output},
	}, amend)
	if err != nil {
		return err
	}
	exit, err := p.Wait(ctx)
	if err != nil {
		_ = m.Signal(context.WithoutCancel(ctx), name.String(), syscall.SIGKILL) // the launch is undone anyway
		return err
	}
	if s := p.Session(); s != nil {
		stop := time.AfterFunc(hookPipes, s.Detach)
		_ = s.Wait() // what it said is only for people
		stop.Stop()
	}
	return output.explain(statusError(exit.Status))
}

// statusError is a wait status as an error; nil for success.
func statusError(s syscall.WaitStatus) error {
	switch {
	case s.Signaled():
		return fmt.Errorf("it was killed by signal %d", s.Signal())
	case s.ExitStatus() != 0:
		return fmt.Errorf("exit status %d", s.ExitStatus())
	}
	return nil
}

// tail keeps the end of what a hook says. It takes its writes one at a time.
type tail struct{ kept []byte }

// Write implements [io.Writer].
func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - hookOutput; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(p), nil
}

// explain adds it to an error.
func (t *tail) explain(err error) error {
	said := strings.ToValidUTF8(strings.TrimSpace(string(t.kept)), "\uFFFD")
	if err == nil || said == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, said)
}
