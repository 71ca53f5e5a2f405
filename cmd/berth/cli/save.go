package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/cmd/berth/internal/terminal"
	"github.com/berth-dev/berth/containerizer"
)

func newSave(a *App) *cobra.Command {
	var output, form string
	cmd := &cobra.Command{
		Use:               "save [flags] IMAGE...",
		Short:             "Write images into an archive",
		Args:              needImages,
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			f := containerizer.ArchiveFormat(form)
			if f != containerizer.ArchiveOCI && f != containerizer.ArchiveDocker {
				return invalidf("--format %q: %s and %s exist", form, containerizer.ArchiveDocker, containerizer.ArchiveOCI)
			}
			return a.save(cmd.Context(), output, f, args)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write this `file` instead of standard output")
	cmd.Flags().StringVar(&form, "format", string(containerizer.ArchiveDocker), "`form` of the archive: docker-archive or oci-archive")
	return cmd
}

// save writes a file aside first, so that a failure leaves none that is cut off.
func (a *App) save(ctx context.Context, output string, form containerizer.ArchiveFormat, names []string) error {
	images, err := a.images(ctx)
	if err != nil {
		return err
	}
	if output == "" {
		if out, ok := a.Out.(*os.File); ok && terminal.Is(out) {
			return invalidf("standard output is a terminal: name a file with -o FILE")
		}
		return images.Save(ctx, a.Out, form, names)
	}
	if info, err := os.Stat(output); err == nil && !info.Mode().IsRegular() { // a device or pipe
		f, err := os.OpenFile(output, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(images.Save(ctx, f, form, names), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(output), ".berth-save-*")
	if err != nil {
		return err
	}
	err = errors.Join(images.Save(ctx, io.Writer(f), form, names), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), output)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}
