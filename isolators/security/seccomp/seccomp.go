package seccomp

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"

	profile "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

var _ containerizer.Isolator = (*Isolator)(nil)

// Values of Spec.Security.Seccomp that are not files.
const (
	// Default is the built-in profile, or what the options put in its place.
	Default = "default"
	// Unconfined is no filter.
	Unconfined = "unconfined"
)

// Options configure an [Isolator].
type Options struct {
	// Default is the profile in place of the built-in one: the absolute path of a
	// file, or Unconfined. "" is the built-in one.
	Default string
	// Check, when set, is asked whether a profile can be compiled, so that one that
	// cannot is refused before anything is made for the container.
	Check func(*specs.LinuxSeccomp) error
}

// Isolator is "linux/seccomp".
type Isolator struct {
	initial string
	check   func(*specs.LinuxSeccomp) error
}

// New returns the isolator. Errors: ErrInvalid for a default that is neither a
// word of the package nor an absolute path. The file is read when it is used.
func New(o Options) (*Isolator, error) {
	if o.Default == "" {
		o.Default = Default
	}
	if err := checkChoice(o.Default); err != nil {
		return nil, fmt.Errorf("default %w", err)
	}
	if o.Check == nil {
		o.Check = func(*specs.LinuxSeccomp) error { return nil }
	}
	return &Isolator{initial: o.Default, check: o.Check}, nil
}

// Name implements [containerizer.Isolator].
func (*Isolator) Name() string { return "linux/seccomp" }

// Prepare implements [containerizer.Isolator]. Errors: ErrInvalid for a malformed
// profile or choice, ErrNotFound for a missing file, and those of Options.Check.
func (i *Isolator) Prepare(_ context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	choice := c.Spec.Security.Seccomp
	if choice == "" || choice == Default {
		choice = i.initial
	}
	if err := checkChoice(choice); err != nil {
		return nil, err
	}
	if c.Spec.Security.Privileged || choice == Unconfined {
		return nil, nil
	}
	resolved, err := i.load(choice, c)
	if err != nil {
		return nil, err
	}
	if err := i.check(resolved); err != nil {
		return nil, describe(choice, err)
	}
	return &containerizer.LaunchInfo{Seccomp: resolved}, nil
}

// Cleanup implements [containerizer.Isolator]; there is nothing to release.
func (*Isolator) Cleanup(context.Context, *containerizer.Container) error { return nil }

func (i *Isolator) load(choice string, c *containerizer.Container) (*specs.LinuxSeccomp, error) {
	var doc *profile.Seccomp
	if choice == Default {
		doc = profile.DefaultProfile()
	} else {
		var err error
		if doc, err = read(choice); err != nil {
			return nil, describe(choice, err)
		}
	}
	t, err := newTarget(c)
	if err != nil {
		return nil, err
	}
	resolved, err := t.resolve(doc)
	if err != nil {
		return nil, describe(choice, err)
	}
	return resolved, nil
}

func describe(choice string, err error) error {
	if choice == Default {
		return fmt.Errorf("built-in seccomp profile: %w", err)
	}
	return fmt.Errorf("seccomp profile %q: %w", choice, err)
}

func checkChoice(choice string) error {
	if choice != Default && choice != Unconfined && !filepath.IsAbs(choice) {
		return fmt.Errorf("seccomp profile %q is neither %q nor %q nor an absolute path: %w",
			choice, Default, Unconfined, containerizer.ErrInvalid)
	}
	return nil
}

// newTarget describes this machine and the capabilities of c.
func newTarget(c *containerizer.Container) (*target, error) {
	kernel, err := kernelVersion()
	if err != nil {
		return nil, err
	}
	t := &target{goarch: runtime.GOARCH, kernel: kernel}
	if c.Launch != nil && c.Launch.Capabilities != nil {
		t.capabilities = c.Launch.Capabilities.Bounding
	}
	return t, nil
}
