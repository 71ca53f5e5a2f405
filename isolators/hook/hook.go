package hook

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// Name is the isolator's name in configuration.
const Name = "hooks"

// DefaultDirs are the folders of Podman and CRI-O.
func DefaultDirs() []string {
	return []string{"/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d"}
}

// Isolator contributes hooks.
type Isolator struct{ dirs []string }

var _ containerizer.Isolator = (*Isolator)(nil)

// New returns the isolator; dirs are the folders of the node's hooks, later ones before
// earlier ones. Those that do not exist are empty.
func New(dirs []string) *Isolator { return &Isolator{dirs} }

// Name implements [containerizer.Isolator].
func (i *Isolator) Name() string { return Name }

// Cleanup implements [containerizer.Isolator]; there is nothing to release.
func (i *Isolator) Cleanup(context.Context, *containerizer.Container) error { return nil }

// Prepare implements [containerizer.Isolator].
func (i *Isolator) Prepare(_ context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	var all specs.Hooks
	if c.Spec.Hooks != nil {
		all = *c.Spec.Hooks
		for _, list := range lists(&all) {
			*list.hooks = slices.Clone(*list.hooks)
		}
	}
	if err := i.addNode(c, &all); err != nil {
		return nil, err
	}
	some := false
	for _, list := range lists(&all) {
		some = some || len(*list.hooks) > 0
		for _, h := range *list.hooks {
			if err := check(h); err != nil {
				return nil, fmt.Errorf("%s hook: %w", list.stage, err)
			}
		}
	}
	if !some {
		return nil, nil
	}
	return &containerizer.LaunchInfo{Hooks: &all}, nil
}

// addNode adds the node's hooks that are for c. A pod sandbox without a process has
// nothing that could wait for them.
func (i *Isolator) addNode(c *containerizer.Container, all *specs.Hooks) error {
	command := slices.Concat(c.Spec.Process.Entrypoint, c.Spec.Process.Args)
	if c.Spec.Class == containerizer.ClassPodSandbox && len(command) == 0 && !c.Spec.Process.Init {
		return nil
	}
	files, err := i.files()
	if err != nil || len(files) == 0 {
		return err
	}
	about := container{annotations: c.Spec.Annotations, bindMounts: slices.ContainsFunc(c.Spec.Mounts, isBind)}
	if len(command) > 0 {
		about.command = command[0]
	}
	for _, file := range files {
		f, err := readFile(file)
		if err != nil {
			return err
		}
		if !f.When.matches(about) {
			continue
		}
		for _, list := range lists(all) {
			if slices.Contains(f.Stages, list.stage) {
				*list.hooks = append(*list.hooks, f.Hook)
			}
		}
	}
	return nil
}

// isBind is whether a mount shows something of the host that the user named.
func isBind(m containerizer.Mount) bool {
	switch m.Type {
	case containerizer.MountBind, containerizer.MountVolume, containerizer.MountSandboxPath:
		return true
	case containerizer.MountTmpfs, containerizer.MountImage, containerizer.MountFilesystem:
	}
	return false
}

// stageList are the hooks of one stage.
type stageList struct {
	stage string
	hooks *[]specs.Hook
}

// lists are the stages of h.
func lists(h *specs.Hooks) []stageList {
	return []stageList{
		{"prestart", &h.Prestart}, //nolint:staticcheck // deprecated, and in use
		{"createRuntime", &h.CreateRuntime},
		{"createContainer", &h.CreateContainer},
		{"startContainer", &h.StartContainer},
		{"poststart", &h.Poststart},
		{"poststop", &h.Poststop},
	}
}

// check refuses what config.md does not allow.
func check(h specs.Hook) error {
	switch {
	case !filepath.IsAbs(h.Path):
		return fmt.Errorf("%q is not an absolute path: %w", h.Path, containerizer.ErrInvalid)
	case len(h.Args) > 0 && h.Args[0] == "":
		return fmt.Errorf("%q: its first argument, which is its name, is empty: %w", h.Path, containerizer.ErrInvalid)
	case h.Timeout != nil && (*h.Timeout <= 0 || *h.Timeout > maxTimeout):
		return fmt.Errorf("%q: a timeout of %d s is not between 1 and %d: %w", h.Path, *h.Timeout, maxTimeout, containerizer.ErrInvalid)
	}
	for _, s := range slices.Concat([]string{h.Path}, h.Args, h.Env) {
		if strings.ContainsRune(s, 0) {
			return fmt.Errorf("%q: a NUL byte is in %q: %w", h.Path, s, containerizer.ErrInvalid)
		}
	}
	return nil
}

// maxTimeout in seconds, a day, is far above what makes sense.
const maxTimeout = 24 * 60 * 60
