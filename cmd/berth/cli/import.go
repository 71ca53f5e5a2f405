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

// importFlags are the flags of import.
type importFlags struct {
	pullFlags
	changes []string
	message string
}

func newImport(a *App) *cobra.Command {
	f := &importFlags{}
	cmd := &cobra.Command{
		Use:   "import [flags] FILE|URL|- [IMAGE]",
		Short: "Make an image of a root filesystem in a tar archive",
		Long: `Make an image of one layer of a root filesystem in a tar archive, which may be
compressed with gzip or zstd, from a file, a URL or standard input ("-").

  berth import --change 'CMD ["/bin/sh"]' --change 'ENV A=b' rootfs.tar.gz app:1`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return invalidf("%s needs an archive, and may have a name for the image", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.importImage(cmd.Context(), f, args) },
	}
	set := cmd.Flags()
	set.StringArrayVarP(&f.changes, "change", "c", nil, "apply an `instruction` of Dockerfiles: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR")
	set.StringVarP(&f.message, "message", "m", "", "`comment` for the image's history")
	set.StringVar(&f.platform, "platform", "", "the archive is of this `platform` (os/arch[/variant])")
	f.register(set, "print the image's id only")
	return cmd
}

func (a *App) importImage(ctx context.Context, f *importFlags, args []string) error {
	if err := f.check(); err != nil {
		return err
	}
	r, err := a.openArchive(ctx, args[0])
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // only read
	o := containerizer.ImportOptions{Changes: f.changes, Message: f.message, Platform: f.platform}
	if len(args) == 2 {
		o.Reference = args[1]
	}
	mover, err := a.mover(ctx)
	if err != nil {
		return err
	}
	display := f.progress(a)
	o.Progress = display.Update
	image, err := mover.Import(ctx, r, o)
	display.Finish()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.Out, image.Config)
	return err
}

// openArchive opens a file, a URL or standard input.
func (a *App) openArchive(ctx context.Context, from string) (io.ReadCloser, error) {
	if from == "-" {
		if terminal.Is(a.In) {
			return nil, invalidf("standard input is a terminal: name the archive")
		}
		return io.NopCloser(a.In), nil
	}
	if !strings.HasPrefix(from, "http://") && !strings.HasPrefix(from, "https://") {
		return os.Open(from)
	}
	if a.OpenURL == nil {
		return nil, ErrElsewhere
	}
	return a.OpenURL(ctx, from)
}
