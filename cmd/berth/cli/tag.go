package cli

import (
	"github.com/spf13/cobra"
)

func newTag(a *App) *cobra.Command {
	return &cobra.Command{
		Use:   "tag IMAGE NAME[:TAG]",
		Short: "Give an image another name",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return invalidf("%s needs an image and a name", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			images, err := a.images(cmd.Context())
			if err != nil {
				return err
			}
			return images.Tag(cmd.Context(), args[0], args[1])
		},
	}
}
