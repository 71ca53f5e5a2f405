package cli

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/containerizer"
)

const transportsHelp = `
  registry.example/team/app:1      a registry (docker:// may be left out)
  oci:DIR[:TAG]                    an OCI layout, which keeps its other images
  oci-archive:FILE[:TAG]           an OCI archive, which is replaced
  docker-archive:FILE[:NAME:TAG]   what docker load reads, of one platform; replaced`

func newPush(a *App) *cobra.Command {
	f := &pullFlags{}
	cmd := &cobra.Command{
		Use:   "push [flags] IMAGE [DESTINATION]",
		Short: "Send a local image to a registry",
		Long: `Send a local image to a registry: to where its own name says, or to a destination:
` + transportsHelp + `

An image of several platforms goes as one if all of them are here, else the one
that is. Manifests and layers are sent as they came, so digests stay.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return invalidf("%s needs an image, and may have a destination", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.move(cmd.Context(), f, func(ctx context.Context, m containerizer.ImageMover, o containerizer.CopyOptions) (digest.Digest, error) {
				target := ""
				if len(args) == 2 {
					target = args[1]
				}
				return m.Push(ctx, args[0], target, o)
			})
		},
	}
	f.registerMove(cmd)
	return cmd
}

func newCopy(a *App) *cobra.Command {
	f := &pullFlags{}
	cmd := &cobra.Command{
		Use:   "copy [flags] SOURCE DESTINATION",
		Short: "Copy an image from one place to another",
		Long: `Copy an image from one place to another, past the local store, with all its
platforms. Both are one of
` + transportsHelp,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return invalidf("%s needs a source and a destination", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.move(cmd.Context(), f, func(ctx context.Context, m containerizer.ImageMover, o containerizer.CopyOptions) (digest.Digest, error) {
				return m.Copy(ctx, args[0], args[1], o)
			})
		},
	}
	f.registerMove(cmd)
	return cmd
}

func (f *pullFlags) registerMove(cmd *cobra.Command) {
	f.register(cmd.Flags(), "print the digest only")
	cmd.Flags().StringVar(&f.platform, "platform", "", "only this `platform` (os/arch[/variant]) of several")
	f.registry.register(cmd.Flags())
}

// move runs a push or copy and prints the digest.
func (a *App) move(
	ctx context.Context, f *pullFlags, do func(context.Context, containerizer.ImageMover, containerizer.CopyOptions) (digest.Digest, error),
) error {
	if err := f.check(); err != nil {
		return err
	}
	if _, err := a.nodeWith(&f.registry); err != nil {
		return err
	}
	mover, err := a.mover(ctx)
	if err != nil {
		return err
	}
	display := f.progress(a)
	d, err := do(ctx, mover, containerizer.CopyOptions{Platform: f.platform, Progress: display.Update})
	display.Finish()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.Out, d)
	return err
}

// mover is the part of the image store that reaches other places.
func (a *App) mover(ctx context.Context) (containerizer.ImageMover, error) {
	images, err := a.images(ctx)
	if err != nil {
		return nil, err
	}
	m, ok := images.(containerizer.ImageMover)
	if !ok {
		return nil, sentencef(containerizer.ErrUnsupported, "this image store cannot bring images to other places")
	}
	return m, nil
}
