package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/containerizer"
)

// rmFlags are the flags of rm.
type rmFlags struct{ force, volumes bool }

func newRm(a *App) *cobra.Command {
	f := &rmFlags{}
	cmd := &cobra.Command{
		Use:               "rm [flags] CONTAINER...",
		Aliases:           []string{"remove"},
		Short:             "Remove containers",
		Args:              needContainers,
		ValidArgsFunction: a.completeContainers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.rm(cmd.Context(), f, args)
		},
	}
	cmd.Flags().BoolVarP(&f.force, "force", "f", false, "remove running containers too, and do not mind ones that are gone")
	cmd.Flags().BoolVarP(&f.volumes, "volumes", "v", false, "remove their anonymous volumes")
	return cmd
}

func (a *App) rm(ctx context.Context, f *rmFlags, names []string) error {
	engine, err := a.engine(ctx)
	if err != nil {
		return err
	}
	var all error
	for _, name := range names {
		err := a.rmOne(ctx, f, engine, name)
		if err != nil {
			if !f.force || !errors.Is(err, containerizer.ErrNotFound) {
				all = errors.Join(all, err)
			}
			continue
		}
		if _, err := fmt.Fprintln(a.Out, name); err != nil {
			return errors.Join(all, err)
		}
	}
	return errors.Join(all, a.node.SweepBriefly(ctx)) // who removes waits until the space is free, but not for pulls
}

func (a *App) rmOne(ctx context.Context, f *rmFlags, engine containerizer.Engine, name string) error {
	id, err := resolve(ctx, engine, name)
	if err != nil {
		return err
	}
	status, err := engine.Status(ctx, id)
	if err != nil {
		return err
	}
	running := status.State == containerizer.StateRunning || status.State == containerizer.StatePaused
	if running && !f.force {
		return sentencef(containerizer.ErrFailedPrecondition,
			"container %q is %s; stop it first, or use rm -f", name, status.State)
	}
	if f.volumes || status.Spec != nil && status.Spec.AutoRemove {
		return a.destroy(ctx, engine, id, status.Spec)
	}
	return engine.Destroy(ctx, id)
}
