package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/berth-dev/berth/containerizer"
	"github.com/spf13/cobra"
)

func newRm(a *App) *cobra.Command {
	var force, volumes bool
	cmd := &cobra.Command{
		Use:               "rm [flags] CONTAINER...",
		Aliases:           []string{"remove"},
		Short:             "Remove containers",
		Args:              needContainers,
		ValidArgsFunction: a.completeContainers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.rm(cmd.Context(), args, force, volumes)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "remove running containers too, and do not mind ones that are gone")
	cmd.Flags().BoolVarP(&volumes, "volumes", "v", false, "remove their anonymous volumes")
	return cmd
}

func (a *App) rm(ctx context.Context, names []string, force, volumes bool) error {
	engine, err := a.engine(ctx)
	if err != nil {
		return err
	}
	var all error
	for _, name := range names {
		err := a.rmOne(ctx, engine, name, force, volumes)
		if err != nil {
			if !force || !errors.Is(err, containerizer.ErrNotFound) {
				all = errors.Join(all, err)
			}
			continue
		}
		if _, err := fmt.Fprintln(a.Out, name); err != nil {
			return errors.Join(all, err)
		}
	}
	return all
}

func (a *App) rmOne(ctx context.Context, engine containerizer.Engine, name string, force, volumes bool) error {
	id, err := resolve(ctx, engine, name)
	if err != nil {
		return err
	}
	status, err := engine.Status(ctx, id)
	if err != nil {
		return err
	}
	running := status.State == containerizer.StateRunning || status.State == containerizer.StatePaused
	if running && !force {
		return sentencef(containerizer.ErrFailedPrecondition,
			"container %q is %s; stop it first, or use rm -f", name, status.State)
	}
	return a.destroy(ctx, engine, id, status.Spec, volumes)
}
