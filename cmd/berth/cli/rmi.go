package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func newRmi(a *App) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:               "rmi [flags] IMAGE...",
		Short:             "Remove images",
		Args:              needImages,
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			images, err := a.images(cmd.Context())
			if err != nil {
				return err
			}
			var all error
			for _, name := range args {
				report, err := images.Remove(cmd.Context(), name, force)
				if err != nil {
					all = errors.Join(all, err)
					continue
				}
				for _, line := range report.Images {
					if _, err := fmt.Fprintln(a.Out, line); err != nil {
						return err
					}
				}
			}
			return all
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "remove images that containers use, too")
	return cmd
}
