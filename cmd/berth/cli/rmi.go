package cli

import (
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
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
				if err := a.removed(report.Images); err != nil {
					return err
				}
			}
			return errors.Join(all, a.node.SweepBriefly(cmd.Context()))
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "remove images that containers use, too")
	return cmd
}

// removed prints names and digests that are gone, as Docker does.
func (a *App) removed(list []string) error {
	for _, s := range list {
		word := "Untagged"
		if digest.Digest(s).Validate() == nil {
			word = "Deleted"
		}
		if _, err := fmt.Fprintf(a.Out, "%s: %s\n", word, s); err != nil {
			return err
		}
	}
	return nil
}
