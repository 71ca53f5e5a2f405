package cli

import (
	"context"
	"fmt"

	"github.com/berth-dev/berth/cmd/berth/internal/progress"
	"github.com/berth-dev/berth/containerizer"
	"github.com/spf13/cobra"
)

func newPull(a *App) *cobra.Command {
	var platform string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "pull [flags] IMAGE...",
		Short: "Fetch images",
		Long: `Fetch images from a registry, a directory or an archive:

  debian:12, docker://registry.example/team/app@sha256:…   a registry
  oci:DIR[:TAG], oci-archive:FILE[:TAG]                    an OCI layout or archive
  docker-archive:FILE[:TAG]                                what docker save writes`,
		Args: needImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			images, err := a.images(ctx)
			if err != nil {
				return err
			}
			for _, ref := range args {
				source := containerizer.ImageSource{Reference: ref, Platform: platform, Pull: containerizer.PullAlways}
				image, err := a.pullShown(ctx, images, source, quiet)
				if err != nil {
					return err
				}
				if _, err := fmt.Fprintln(a.Out, image.Config); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&platform, "platform", "", "fetch the image for this `platform` (os/arch[/variant])")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the image's id only")
	return cmd
}

func needImages(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return invalidf("%s needs at least one image", cmd.CommandPath())
	}
	return nil
}

// pullShown pulls and shows how it gets on.
func (a *App) pullShown(
	ctx context.Context, images containerizer.Images, source containerizer.ImageSource, quiet bool,
) (*containerizer.Image, error) {
	display := progress.New(a.Err, quiet)
	image, err := images.Pull(ctx, source, containerizer.PullOptions{Progress: display.Update})
	display.Finish()
	return image, err
}
