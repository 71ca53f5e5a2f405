package capabilities

import (
	"context"
	"fmt"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/security/internal/hostcap"
)

var _ containerizer.Isolator = (*Isolator)(nil)

// Options configure an [Isolator].
type Options struct {
	// Default is the set of a container that asks for nothing, in the form of
	// Spec.Security.CapAdd; nil is Docker's fourteen, an empty list none.
	Default []string
}

// Isolator is "linux/capabilities".
type Isolator struct {
	initial set
}

// New returns the isolator. Errors: ErrInvalid for an unknown name in o.
func New(o Options) (*Isolator, error) {
	list := o.Default
	if list == nil {
		list = defaultNames[:]
	}
	initial, hasAll, err := parse(list)
	if err != nil {
		return nil, fmt.Errorf("default capabilities: %w", err)
	}
	if hasAll {
		initial = ^set(0)
	}
	return &Isolator{initial: initial}, nil
}

// Name implements [containerizer.Isolator].
func (*Isolator) Name() string { return "linux/capabilities" }

// Prepare computes the sets. Errors: ErrInvalid for an unknown name, ErrUnsupported
// for one that the kernel lacks, ErrPermission for one that berth itself lacks.
func (i *Isolator) Prepare(_ context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	available, err := availableTo(c)
	if err != nil {
		return nil, err
	}
	chosen, ambient, err := i.choose(&c.Spec.Security, available)
	if err != nil {
		return nil, err
	}
	list, raised := chosen.list(), ambient.list()
	return &containerizer.LaunchInfo{Capabilities: &specs.LinuxCapabilities{
		Bounding:    list,
		Permitted:   slices.Clone(list),
		Effective:   slices.Clone(list),
		Inheritable: raised, // an ambient capability must be inheritable (capabilities(7))
		Ambient:     slices.Clone(raised),
	}}, nil
}

// Cleanup implements [containerizer.Isolator]; there is nothing to release.
func (*Isolator) Cleanup(context.Context, *containerizer.Container) error { return nil }

// choose applies the rule of the package to s.
func (i *Isolator) choose(s *containerizer.Security, available *availability) (chosen, ambient set, err error) {
	add, addAll, err := parse(s.CapAdd)
	if err != nil {
		return 0, 0, fmt.Errorf("add capabilities: %w", err)
	}
	drop, dropAll, err := parse(s.CapDrop)
	if err != nil {
		return 0, 0, fmt.Errorf("drop capabilities: %w", err)
	}
	ambient, ambientAll, err := parse(s.CapAmbient)
	if err != nil {
		return 0, 0, fmt.Errorf("ambient capabilities: %w", err)
	}
	if err := available.check((add | ambient) &^ drop); err != nil {
		return 0, 0, err
	}
	switch {
	case s.Privileged || addAll:
		chosen = available.set
	case dropAll:
		chosen = 0
	default:
		chosen = i.initial & available.set
	}
	chosen = (chosen | add | ambient) &^ drop
	if ambientAll {
		ambient = chosen
	}
	return chosen, ambient & chosen, nil
}

// availability is what a container can have at most.
type availability struct {
	set    set // can be had
	kernel set // exists
}

// availableTo finds out what c can have. A process in another user namespace than
// the host's has every capability there, whoever made it (user_namespaces(7)).
func availableTo(c *containerizer.Container) (*availability, error) {
	kernel, err := kernelSet()
	if err != nil {
		return nil, err
	}
	a := &availability{set: kernel, kernel: kernel}
	if !inUserNamespace(c) {
		own, err := hostcap.Permitted()
		if err != nil {
			return nil, err
		}
		a.set &= set(own)
	}
	return a, nil
}

func inUserNamespace(c *containerizer.Container) bool {
	return c.Launch != nil && slices.ContainsFunc(c.Launch.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.UserNamespace
	})
}

// check refuses what was asked for by name and cannot be had.
func (a *availability) check(asked set) error {
	if missing := asked &^ a.kernel; missing != 0 {
		return fmt.Errorf("this kernel does not have %s: %w", strings.Join(missing.list(), ", "), containerizer.ErrUnsupported)
	}
	if missing := asked &^ a.set; missing != 0 {
		return fmt.Errorf("berth itself does not have %s, so a container without a user namespace cannot: %w",
			strings.Join(missing.list(), ", "), containerizer.ErrPermission)
	}
	return nil
}
