package apparmor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
)

var _ containerizer.Isolator = (*Isolator)(nil)

const (
	// Unconfined as Spec.Security.AppArmor is no profile.
	Unconfined = "unconfined"
	// DefaultProfile is the name of berth's own profile.
	DefaultProfile = "berth-default"

	// maxNameBytes is more than the kernel takes in one write of an attribute's name.
	maxNameBytes = 1024
)

// Options configure an [Isolator].
type Options struct {
	// Profile is the name of the default profile; "" is DefaultProfile. Another one
	// has to be loaded by the operator, or it is made like berth's own.
	Profile string
	// Strict refuses containers when the default profile cannot be loaded, instead of
	// running them without one.
	Strict bool
	// Parser is the program that loads profiles; "" is apparmor_parser, found as
	// root finds it.
	Parser string
	// Root is put before paths of /sys and /proc; for tests.
	Root string
}

// Isolator is "linux/apparmor".
type Isolator struct {
	log     *log.Logger
	kernel  kernel
	profile string
	strict  bool

	mu sync.Mutex
	// warned is set once a container had to run without the default profile.
	warned bool
}

// New returns the isolator. Errors: ErrInvalid for an impossible name.
func New(log *log.Logger, o Options) (*Isolator, error) {
	if o.Profile == "" {
		o.Profile = DefaultProfile
	}
	if err := checkName(o.Profile); err != nil {
		return nil, fmt.Errorf("default %w", err)
	}
	return &Isolator{
		log:     log,
		kernel:  kernel{root: o.Root, parser: o.Parser},
		profile: o.Profile,
		strict:  o.Strict,
	}, nil
}

// Name implements [containerizer.Isolator].
func (*Isolator) Name() string { return "linux/apparmor" }

// Prepare implements [containerizer.Isolator]. Errors: ErrInvalid for an impossible
// name, ErrUnsupported without AppArmor, ErrNotFound for a profile that is not
// loaded.
func (i *Isolator) Prepare(ctx context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	asked := c.Spec.Security.AppArmor
	if err := checkName(asked); err != nil {
		return nil, err
	}
	enabled, err := i.kernel.enabled()
	if err != nil {
		return nil, err
	}
	named := asked != "" && asked != Unconfined && asked != i.profile
	switch {
	case !enabled && named && !c.Spec.Security.Privileged:
		return nil, fmt.Errorf("AppArmor profile %q: the kernel runs without AppArmor: %w", asked, containerizer.ErrUnsupported)
	case !enabled:
		return nil, nil
	case c.Spec.Security.Privileged || asked == Unconfined:
		// Named, so that the process leaves a profile of berth's own, if it has one.
		return &containerizer.LaunchInfo{AppArmorProfile: Unconfined}, nil
	case named:
		return i.loaded(asked)
	}
	return i.useDefault(ctx, c)
}

// Cleanup implements [containerizer.Isolator]; there is nothing to release.
func (*Isolator) Cleanup(context.Context, *containerizer.Container) error { return nil }

// loaded returns the launch information for a profile of the operator.
func (i *Isolator) loaded(name string) (*containerizer.LaunchInfo, error) {
	ok, err := i.kernel.loaded(name)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("AppArmor profile %q is not loaded (apparmor_parser -r FILE loads it, aa-status lists all): %w",
			name, containerizer.ErrNotFound)
	}
	return &containerizer.LaunchInfo{AppArmorProfile: name}, nil
}

// useDefault loads the default profile unless it is there. A container that names
// it does not run without.
func (i *Isolator) useDefault(ctx context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	ok, err := i.kernel.loaded(i.profile)
	if err == nil && !ok {
		err = i.kernel.load(ctx, i.profile)
	}
	if err == nil {
		return &containerizer.LaunchInfo{AppArmorProfile: i.profile}, nil
	}
	err = fmt.Errorf("default AppArmor profile %q: %w", i.profile, err)
	if c.Spec.Security.AppArmor != "" || i.strict || !errors.Is(err, containerizer.ErrUnsupported) {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.warned {
		i.warned = true
		i.log.Info("containers run without an AppArmor profile", log.Stringer("container_id", c.ID), log.Error(err))
	}
	return nil, nil
}

// checkName refuses names that would mean something else to the kernel, which
// reads "exec NAME" up to a newline or NUL.
func checkName(name string) error {
	if len(name) > maxNameBytes {
		return fmt.Errorf("AppArmor profile name of %d bytes is longer than %d: %w", len(name), maxNameBytes, containerizer.ErrInvalid)
	}
	if strings.TrimSpace(name) != name || strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("AppArmor profile name %q begins or ends with a space or holds a control character: %w",
			name, containerizer.ErrInvalid)
	}
	return nil
}
