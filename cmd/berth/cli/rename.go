package cli

import (
	"github.com/spf13/cobra"
)

func newRename(a *App) *cobra.Command {
	return &cobra.Command{
		Use:   "rename CONTAINER NAME",
		Short: "Give a container another name",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return invalidf("%s needs a container and its new name", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: a.completeContainers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			engine, err := a.engine(cmd.Context())
			if err != nil {
				return err
			}
			id, err := resolve(cmd.Context(), engine, args[0])
			if err != nil {
				return err
			}
			return engine.Rename(cmd.Context(), id, args[1])
		},
	}
}
