package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/containerizer"
)

// needContainer and needContainers check the number of arguments.
func needContainer(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return invalidf("%s needs exactly one container", cmd.CommandPath())
	}
	return nil
}

func needContainers(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return invalidf("%s needs at least one container", cmd.CommandPath())
	}
	return nil
}

// noArguments is for commands without any.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return invalidf("%s takes no arguments, not %q", cmd.CommandPath(), args[0])
	}
	return nil
}

// each does something with every container named, goes on after errors, and
// prints the names of those it succeeded with.
func (a *App) each(
	ctx context.Context, names []string, do func(containerizer.Engine, containerizer.ContainerID) error,
) error {
	engine, err := a.engine(ctx)
	if err != nil {
		return err
	}
	var all error
	for _, name := range names {
		id, err := resolve(ctx, engine, name)
		if err == nil {
			err = do(engine, id)
		}
		if err != nil {
			all = errors.Join(all, err)
			continue
		}
		if _, err := fmt.Fprintln(a.Out, name); err != nil {
			return errors.Join(all, err)
		}
	}
	return all
}

// eachCommand is a command without flags that does one thing to containers.
func (a *App) eachCommand(
	name, short string, states []containerizer.State, do func(context.Context, containerizer.Engine, containerizer.ContainerID) error,
) *cobra.Command {
	return &cobra.Command{
		Use:               name + " CONTAINER...",
		Short:             short,
		Args:              needContainers,
		ValidArgsFunction: a.completeContainers(states...),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.each(ctx, args, func(e containerizer.Engine, id containerizer.ContainerID) error { return do(ctx, e, id) })
		},
	}
}

// find resolves one container and returns its status.
func (a *App) find(ctx context.Context, name string) (containerizer.Engine, *containerizer.Status, error) {
	engine, err := a.engine(ctx)
	if err != nil {
		return nil, nil, err
	}
	id, err := resolve(ctx, engine, name)
	if err != nil {
		return nil, nil, err
	}
	status, err := engine.Status(ctx, id)
	return engine, status, err
}
