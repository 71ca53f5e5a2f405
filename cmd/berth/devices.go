package main

import (
	"context"

	"github.com/berth-dev/berth/cmd/berth/cli"
	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/containerizer"
)

// devicesElsewhere leaves it to berth-images to resolve names of devices.
type devicesElsewhere struct{}

var _ containerizer.Adjuster = devicesElsewhere{}

func newDevices(config.Config) containerizer.Isolator { return devicesElsewhere{} }

// Name implements [containerizer.Isolator]: it stands for isolators/cdi.
func (devicesElsewhere) Name() string { return "cdi" }

// Prepare implements [containerizer.Isolator]. Adjust was called before.
func (devicesElsewhere) Prepare(context.Context, *containerizer.Container) (*containerizer.LaunchInfo, error) {
	return nil, nil
}

// Cleanup implements [containerizer.Isolator]; there is nothing to release.
func (devicesElsewhere) Cleanup(context.Context, *containerizer.Container) error { return nil }

// Adjust implements [containerizer.Adjuster].
func (devicesElsewhere) Adjust(_ context.Context, c *containerizer.Container) (*containerizer.Spec, error) {
	if len(c.Spec.CDIDevices) > 0 {
		return nil, cli.ErrElsewhere
	}
	return c.Spec, nil
}

// AdjustUpdate implements [containerizer.Adjuster].
func (devicesElsewhere) AdjustUpdate(_ context.Context, _ *containerizer.Container, r *containerizer.Resources) (*containerizer.Resources, error) {
	return r, nil
}
