package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/cmd/berth/internal/progress"
	"github.com/berth-dev/berth/containerizer"
)

// pullFlags are the flags of pull.
type pullFlags struct {
	platform string
	quiet    bool
	mode     string
	creds    string
	registry registryFlags
}

// register adds those that say how progress is shown.
func (f *pullFlags) register(set *pflag.FlagSet, quiet string) {
	set.BoolVarP(&f.quiet, "quiet", "q", false, quiet)
	set.StringVar(&f.mode, "progress", string(progress.Auto), "how progress is shown: `auto`, tty, plain, json (an object a line) or quiet")
}

// check refuses modes that there are not.
func (f *pullFlags) check() error {
	if f.mode != "" && !slices.Contains(progress.Modes(), progress.Mode(f.mode)) {
		return invalidf("--progress %q: %v exist", f.mode, progress.Modes())
	}
	return nil
}

// progress is where pulls show how they get on.
func (f *pullFlags) progress(a *App) *progress.Display {
	mode := progress.Mode(f.mode)
	if f.quiet {
		mode = progress.Quiet
	}
	return progress.New(a.Err, mode)
}

func newPull(a *App) *cobra.Command {
	f := &pullFlags{}
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
			if err := f.check(); err != nil {
				return err
			}
			if _, err := a.nodeWith(&f.registry); err != nil {
				return err
			}
			images, err := a.images(ctx)
			if err != nil {
				return err
			}
			var auth *containerizer.RegistryAuth
			if f.creds != "" {
				if auth, err = a.credentials(ctx, f.creds); err != nil {
					return err
				}
			}
			for _, ref := range args {
				source := containerizer.ImageSource{Reference: ref, Platform: f.platform, Pull: containerizer.PullAlways, Auth: auth}
				image, err := a.pullShown(ctx, images, source, f)
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
	cmd.Flags().StringVar(&f.platform, "platform", "", "fetch the image for this `platform` (os/arch[/variant])")
	f.register(cmd.Flags(), "print the image's id only")
	cmd.Flags().StringVar(&f.creds, "creds", "", "log in as `user[:password]`, for this pull; others can see it in the list of processes")
	f.registry.register(cmd.Flags())
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
	ctx context.Context, images containerizer.Images, source containerizer.ImageSource, f *pullFlags,
) (*containerizer.Image, error) {
	display := f.progress(a)
	image, err := images.Pull(ctx, source, containerizer.PullOptions{Progress: display.Update})
	display.Finish()
	return image, err
}
