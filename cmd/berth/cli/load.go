package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/cmd/berth/internal/terminal"
	"github.com/berth-dev/berth/containerizer"
)

func newLoad(a *App) *cobra.Command {
	var input string
	f := &pullFlags{}
	cmd := &cobra.Command{
		Use:   "load [flags]",
		Short: "Read images from an archive",
		Long:  "Read images from an OCI or Docker archive, compressed or not, from a file or standard input.",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.load(cmd.Context(), f, input) },
	}
	cmd.Flags().StringVarP(&input, "input", "i", "", "read this `file` instead of standard input")
	f.register(cmd.Flags(), "show nothing of the progress")
	return cmd
}

func (a *App) load(ctx context.Context, f *pullFlags, input string) error {
	if err := f.check(); err != nil {
		return err
	}
	var r io.Reader = a.In
	if input != "" {
		file, err := os.Open(input)
		if err != nil {
			return err
		}
		defer file.Close() //nolint:errcheck // only read
		r = file
	} else if terminal.Is(a.In) {
		return invalidf("standard input is a terminal: name the archive with -i FILE")
	}
	images, err := a.images(ctx)
	if err != nil {
		return err
	}
	display := f.progress(a)
	loaded, err := images.Load(ctx, r, containerizer.PullOptions{Progress: display.Update})
	display.Finish()
	if err != nil {
		return err
	}
	for _, i := range loaded {
		lines := []string{"Loaded image ID: " + i.Config.String()}
		if len(i.References) > 0 {
			lines = nil
		}
		for _, name := range i.References {
			repository, tag := splitReference(name)
			lines = append(lines, "Loaded image: "+familiar(repository)+":"+tag)
		}
		if _, err := fmt.Fprintln(a.Out, strings.Join(lines, "\n")); err != nil {
			return err
		}
	}
	return nil
}
