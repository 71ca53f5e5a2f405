package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/containerizer"
)

func newSystemGroup(a *App) *cobra.Command {
	return group("system", "Look after the node",
		newInfo(a), newDf(a), newSystemPrune(a), newCheck(a), newReap(a), newSweep(a))
}

// checkFlags are the flags of check.
type checkFlags struct{ repair bool }

func newCheck(a *App) *cobra.Command {
	f := &checkFlags{}
	cmd := &cobra.Command{
		Use:   "check [flags]",
		Short: "Look for what was left behind or is damaged",
		Long: `Look for containers whose operations were cut off, for what nobody claims any more, and for damage in the image
store: records, digests, and the files of all layers. What killed pulls left over is no damage; the next command that
cleans up removes it. With --repair, images that are damaged are made again, of what is whole in the store or fetched by
their names. The exit code is 1 when something was found and not repaired.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.check(cmd.Context(), f) },
	}
	cmd.Flags().BoolVar(&f.repair, "repair", false, "put it right")
	return cmd
}

func (a *App) check(ctx context.Context, f *checkFlags) error {
	engine, err := a.engine(ctx)
	if err != nil {
		return err
	}
	report, err := engine.Recover(ctx, f.repair)
	if err != nil {
		return err
	}
	images, err := a.images(ctx)
	if err != nil {
		return err
	}
	damage, err := images.Check(ctx, f.repair)
	if err != nil {
		return err
	}
	found, repaired := append(report.Repaired, damage.Found...), damage.Repaired
	if f.repair {
		found, repaired = damage.Found, append(report.Repaired, damage.Repaired...)
	}
	owed := append(report.Owed, damage.Owed...)
	for _, part := range []struct {
		word  string
		lines []string
	}{{"found", found}, {"left over", damage.Left}, {"repaired", repaired}, {"owed", owed}} {
		for _, line := range part.lines {
			if _, err := fmt.Fprintf(a.Out, "%s: %s\n", part.word, line); err != nil {
				return err
			}
		}
	}
	switch {
	case len(owed) > 0 || len(found) > 0 && !f.repair:
		return exitStatus(1)
	case len(found)+len(repaired)+len(damage.Left) == 0:
		_, err = fmt.Fprintln(a.Out, "nothing found")
	}
	return err
}

// newSweep is run by berth itself when much was put off.
func newSweep(a *App) *cobra.Command {
	return &cobra.Command{
		Use:    "sweep",
		Short:  "Delete what was given up, and make new images durable",
		Hidden: true,
		Args:   noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.here = true
			node, err := a.openNode()
			if err != nil {
				return err
			}
			return node.Sweep(cmd.Context())
		},
	}
}

// newReap is run by monitors when a container has ended and no client is there to
// release what it held.
func newReap(a *App) *cobra.Command {
	return &cobra.Command{
		Use:    "reap CONTAINER...",
		Short:  "Release what ended containers held",
		Hidden: true,
		Args:   needContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			a.here = true
			engine, err := a.engine(ctx)
			if err != nil {
				return err
			}
			var all error
			for _, arg := range args {
				all = errors.Join(all, a.reap(ctx, engine, arg))
			}
			return errors.Join(all, a.node.Sweep(ctx))
		},
	}
}

// reaper is an engine that can be told of an exit.
type reaper interface {
	Reap(ctx context.Context, id containerizer.ContainerID) error
}

func (a *App) reap(ctx context.Context, engine containerizer.Engine, arg string) error {
	id, err := containerizer.ParseContainerID(arg)
	if err != nil {
		return err
	}
	status, err := engine.Status(ctx, id)
	if errors.Is(err, containerizer.ErrNotFound) {
		return nil // somebody was faster
	}
	if err != nil {
		return err
	}
	if status.Spec == nil || !status.Spec.AutoRemove {
		if r, ok := engine.(reaper); ok {
			return r.Reap(ctx, id)
		}
		return nil
	}
	if _, err := engine.Wait(ctx, id); err != nil && !errors.Is(err, containerizer.ErrNotFound) {
		return err
	}
	return a.destroy(ctx, engine, id, status.Spec)
}
