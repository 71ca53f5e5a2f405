package cli

import (
	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/cmd/berth/internal/specflag"
	"github.com/berth-dev/berth/containerizer"
)

func newUpdate(a *App) *cobra.Command {
	f := &specflag.ResourceFlags{}
	cmd := &cobra.Command{
		Use:               "update [flags] CONTAINER...",
		Short:             "Change the limits of containers",
		Args:              needContainers,
		ValidArgsFunction: a.completeContainers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !f.Given() {
				return invalidf("nothing to change: give the new limits as flags")
			}
			var r containerizer.Resources
			if err := f.Apply(host{ctx: cmd.Context(), app: a}, &r); err != nil {
				return err
			}
			return a.each(cmd.Context(), args, func(e containerizer.Engine, id containerizer.ContainerID) error {
				return e.Update(cmd.Context(), id, &r)
			})
		},
	}
	f.Register(cmd.Flags())
	return cmd
}
