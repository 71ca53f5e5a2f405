package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
)

// Hooks (runtime-spec, config.md, "POSIX-platform Hooks") run in this process's
// namespaces, as its children, or in the container's, as exec sessions of its monitor.
// What it takes to run those that are left is in the container's directory from
// before the first until after the last: a poststop hook runs whoever tears down, and
// once more if that dies in between.

const (
	// hooksFile is a hookRecord in the container's directory.
	hooksFile = "hooks.json"
	// bundleDir is the container's bundle in its directory: what hooks are told.
	bundleDir = "bundle"
	// bundleRootfs is where the root filesystem is, as createContainer hooks see it.
	bundleRootfs = "rootfs"
)

// The names of hooks are those of config.json.
const (
	hookPrestart        = "prestart"
	hookCreateRuntime   = "createRuntime"
	hookCreateContainer = "createContainer"
	hookStartContainer  = "startContainer"
	hookPoststart       = "poststart"
	hookPoststop        = "poststop"
)

// hookRecord is what hooks need, after a crash as well.
type hookRecord struct {
	Spec *containerizer.Spec       `json:"spec"`
	Info *containerizer.LaunchInfo `json:"info"`
}

func bundle(dir string) string { return filepath.Join(dir, bundleDir) }

// hookSet are the hooks of one container; nil has none.
type hookSet struct {
	l     *Launcher
	c     *containerizer.Container
	info  *containerizer.LaunchInfo
	hooks *specs.Hooks
}

// hooksOf are the hooks of a launch.
func (l *Launcher) hooksOf(c *containerizer.Container, info *containerizer.LaunchInfo) *hookSet {
	if info.Hooks == nil {
		return nil
	}
	return &hookSet{l, c, info, info.Hooks}
}

// recordedHooks are the hooks of a container that was launched before.
func (l *Launcher) recordedHooks(c *containerizer.Container) (*hookSet, error) {
	text, err := os.ReadFile(filepath.Join(c.Dir, hooksFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what hooks the container has: %w", err)
	}
	var rec hookRecord
	if err := json.Unmarshal(text, &rec); err != nil || rec.Info == nil || rec.Spec == nil {
		return nil, fmt.Errorf("%q is damaged: %w", filepath.Join(c.Dir, hooksFile), errors.Join(err, containerizer.ErrDataCorrupt))
	}
	own := *c
	own.Spec, own.Launch = rec.Spec, rec.Info
	return l.hooksOf(&own, rec.Info), nil
}

// record writes down what hooks need, before any of them runs.
func (h *hookSet) record(config *specs.Spec) error {
	if h == nil {
		return nil
	}
	dir := bundle(h.c.Dir)
	if err := os.MkdirAll(filepath.Join(dir, bundleRootfs), 0o700); err != nil {
		return fmt.Errorf("make the bundle for hooks: %w", err)
	}
	if err := writeJSON(filepath.Join(dir, "config.json"), config); err != nil {
		return err
	}
	return writeJSON(filepath.Join(h.c.Dir, hooksFile), hookRecord{h.c.Spec, h.info})
}

func writeJSON(path string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %q: %w", path, err)
	}
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return fmt.Errorf("write what hooks need: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write what hooks need: %w", err)
	}
	return nil
}

// starts says whether it waits for hooks before its command.
func (h *hookSet) starts() bool { return h != nil && len(h.hooks.StartContainer) > 0 }

// create runs the hooks of the time when the namespaces are there, and the root
// filesystem is not the root yet.
func (h *hookSet) create(ctx context.Context, pid int) error {
	if h == nil {
		return nil
	}
	state := h.state(specs.StateCreating, pid)
	if err := h.here(ctx, hookPrestart, h.hooks.Prestart, state); err != nil { //nolint:staticcheck // deprecated, and in use
		return err
	}
	if err := h.here(ctx, hookCreateRuntime, h.hooks.CreateRuntime, state); err != nil {
		return err
	}
	return h.inside(ctx, hookCreateContainer, h.hooks.CreateContainer, state)
}

// start runs the hooks that precede the command, in the container.
func (h *hookSet) start(ctx context.Context, pid int) error {
	if h == nil {
		return nil
	}
	return h.inside(ctx, hookStartContainer, h.hooks.StartContainer, h.state(specs.StateCreated, pid))
}

// started runs the hooks that follow the command's execve.
func (h *hookSet) started(ctx context.Context, pid int) error {
	if h == nil {
		return nil
	}
	return h.here(ctx, hookPoststart, h.hooks.Poststart, h.state(specs.StateRunning, pid))
}

// stopped runs the hooks that follow the container's end, and forgets all hooks. What
// a hook does wrong is in the log.
func (h *hookSet) stopped(ctx context.Context) error {
	if h == nil {
		return nil
	}
	for _, hook := range h.hooks.Poststop {
		if err := h.here(ctx, hookPoststop, []specs.Hook{hook}, h.state(specs.StateStopped, 0)); err != nil {
			h.l.opts.Log.Warn("a hook failed", log.String("container_id", h.c.ID.String()), log.Error(err))
		}
	}
	return forgetHooks(h.c.Dir)
}

func forgetHooks(dir string) error {
	if err := os.RemoveAll(bundle(dir)); err != nil {
		return fmt.Errorf("remove the bundle of hooks: %w", err)
	}
	if err := os.Remove(filepath.Join(dir, hooksFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the record of hooks: %w", err)
	}
	return nil
}

// state is what hooks read from their standard input.
func (h *hookSet) state(status specs.ContainerState, pid int) *specs.State {
	return &specs.State{
		Version: specs.Version, ID: h.c.ID.String(), Status: status, Pid: pid, Bundle: bundle(h.c.Dir), Annotations: h.c.Spec.Annotations,
	}
}

// here runs hooks in the namespaces of this process.
func (h *hookSet) here(ctx context.Context, kind string, hooks []specs.Hook, state *specs.State) error {
	return h.each(ctx, kind, hooks, state, func(ctx context.Context, hook *specs.Hook, input []byte) error {
		return runHook(ctx, hook, state.Bundle, input)
	})
}

// inside runs hooks in the namespaces of the container.
func (h *hookSet) inside(ctx context.Context, kind string, hooks []specs.Hook, state *specs.State) error {
	if len(hooks) == 0 {
		return nil
	}
	own := *state
	var err error
	if own.Pid, err = innerPID(state.Pid); err != nil {
		return fmt.Errorf("%s hooks: %w", kind, err)
	}
	return h.each(ctx, kind, hooks, &own, func(ctx context.Context, hook *specs.Hook, input []byte) error {
		return h.enter(ctx, kind, hook, input)
	})
}

// each runs hooks in their order, each for as long as it may take.
func (h *hookSet) each(ctx context.Context, kind string, hooks []specs.Hook, state *specs.State, run func(context.Context, *specs.Hook, []byte) error) error {
	input, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("encode the state for %s hooks: %w", kind, err)
	}
	for i := range hooks {
		hook := &hooks[i]
		hctx, cancel := hookContext(ctx, hook)
		err := run(hctx, hook, input)
		if err != nil && hctx.Err() != nil {
			err = context.Cause(hctx)
		}
		cancel()
		if err != nil { // its class would be taken for the command's
			return fmt.Errorf("%s hook %q of container %q: %s: %w", kind, hook.Path, h.c.ID, err.Error(), containerizer.ErrFailedPrecondition)
		}
	}
	return nil
}

// innerPID is a process as the processes of its own pid namespace see it.
func innerPID(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if list, ok := strings.CutPrefix(line, "NSpid:"); ok {
			fields := strings.Fields(list)
			return strconv.Atoi(fields[len(fields)-1])
		}
	}
	return 0, fmt.Errorf("the kernel does not tell the pid of process %d in its namespace: %w", pid, containerizer.ErrUnsupported)
}
