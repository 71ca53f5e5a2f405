package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/containerizer"
)

// newPin makes the commands pin and unpin.
func newPin(a *App, name, short string, pinned bool) *cobra.Command {
	return &cobra.Command{
		Use:   name + " IMAGE...",
		Short: short,
		Long: short + `.

A pinned image is not removed to make room, by prune, or by rmi without --force. It is the name that is pinned: what it
stands for after another pull is pinned, too. By its id, an image is pinned by all its names.`,
		Args:              needImages,
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			images, err := a.images(cmd.Context())
			if err != nil {
				return err
			}
			pinner, ok := images.(containerizer.ImagePinner)
			if !ok {
				return sentencef(containerizer.ErrUnsupported, "this image store cannot pin")
			}
			var all error
			for _, name := range args {
				all = errors.Join(all, pinner.Pin(cmd.Context(), name, pinned))
			}
			return all
		},
	}
}
