package nnp

import (
	"context"

	"github.com/berth-dev/berth/containerizer"
)

var _ containerizer.Isolator = (*Isolator)(nil)

// Options configure an [Isolator].
type Options struct {
	// Always sets it for containers that do not ask too, as Mesos's linux/nnp does;
	// privileged ones excepted.
	Always bool
}

// Isolator is "linux/nnp".
type Isolator struct{ always bool }

// New returns the isolator.
func New(o Options) *Isolator { return &Isolator{always: o.Always} }

// Name implements [containerizer.Isolator].
func (*Isolator) Name() string { return "linux/nnp" }

// Prepare implements [containerizer.Isolator].
func (i *Isolator) Prepare(_ context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	s := &c.Spec.Security
	if !s.NoNewPrivileges && (s.Privileged || !i.always) {
		return nil, nil
	}
	return &containerizer.LaunchInfo{NoNewPrivileges: true}, nil
}

// Cleanup implements [containerizer.Isolator]; there is nothing to release.
func (*Isolator) Cleanup(context.Context, *containerizer.Container) error { return nil }
