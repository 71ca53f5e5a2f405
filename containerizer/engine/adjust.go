package engine

import (
	"context"
	"fmt"

	"github.com/berth-dev/berth/containerizer"
)

// adjust lets isolators change the description in c, and returns what came of it.
//
// Preconditions: h is l's lock.
func (e *Engine) adjust(ctx context.Context, op *operation, h *held, l *loaded, c *containerizer.Container) (*containerizer.Spec, error) {
	for _, iso := range e.isolators {
		a, is := iso.(containerizer.Adjuster)
		if !is {
			continue
		}
		e.step(op, "launch.adjust")
		spec, err := a.Adjust(ctx, forIsolator(c, h, iso.Name()))
		if err != nil {
			return nil, fmt.Errorf("isolator %q: %w", iso.Name(), err)
		}
		if spec == c.Spec {
			continue
		}
		if err := ValidateSpec(l.id, spec); err != nil {
			return nil, fmt.Errorf("what isolator %q made of the description: %w", iso.Name(), err)
		}
		c.Spec = spec
		resources := spec.Resources
		l.st.Resources = &resources // which Update and Status go by
	}
	return c.Spec, nil
}

// adjustUpdate lets isolators change what a container's resources are to be.
//
// Preconditions: h is l's lock.
func (e *Engine) adjustUpdate(ctx context.Context, h *held, l *loaded, r *containerizer.Resources) (*containerizer.Resources, error) {
	for _, iso := range e.isolators {
		a, is := iso.(containerizer.Adjuster)
		if !is {
			continue
		}
		changed, err := a.AdjustUpdate(ctx, forIsolator(e.container(l), h, iso.Name()), r)
		if err != nil {
			return nil, fmt.Errorf("isolator %q: %w", iso.Name(), err)
		}
		if changed == r {
			continue
		}
		if err := validateResources(changed); err != nil {
			return nil, fmt.Errorf("what isolator %q made of the resources: %w", iso.Name(), err)
		}
		r = changed
	}
	return r, nil
}

// beforeStart asks isolators whether the command may be executed.
//
// Preconditions: h is c's lock.
func (e *Engine) beforeStart(ctx context.Context, op *operation, h *held, c *containerizer.Container) error {
	for _, iso := range e.isolators {
		s, is := iso.(containerizer.Starter)
		if !is {
			continue
		}
		e.step(op, "start.ask")
		if err := s.BeforeStart(ctx, forIsolator(c, h, iso.Name())); err != nil {
			return fmt.Errorf("isolator %q: %w", iso.Name(), err)
		}
	}
	return nil
}
