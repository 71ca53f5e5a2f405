package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func newWait(a *App) *cobra.Command {
	return &cobra.Command{
		Use:               "wait CONTAINER...",
		Short:             "Wait until containers have ended and print their exit codes",
		Args:              needContainers,
		ValidArgsFunction: a.completeContainers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			engine, err := a.engine(ctx)
			if err != nil {
				return err
			}
			var all error
			for _, name := range args {
				id, err := resolve(ctx, engine, name)
				if err != nil {
					all = errors.Join(all, err)
					continue
				}
				t, err := engine.Wait(ctx, id)
				if err != nil {
					all = errors.Join(all, err)
					continue
				}
				if _, err := fmt.Fprintln(a.Out, t.ExitCode); err != nil {
					return err
				}
			}
			return all
		},
	}
}
