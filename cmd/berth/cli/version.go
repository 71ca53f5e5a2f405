package cli

import (
	"cmp"
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/cmd/berth/internal/format"
)

func newVersion(a *App) *cobra.Command {
	var text string
	cmd := &cobra.Command{
		Use:   "version [flags]",
		Short: "Show the version",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			v := a.Version
			v.Commit = cmp.Or(v.Commit, revision())
			switch text {
			case "":
				_, err := fmt.Fprintf(a.Out, "Version:    %s\nGit commit: %s\nGo version: %s\nOS/Arch:    %s/%s\n",
					v.Version, v.Commit, v.Go, v.OS, v.Arch)
				return err
			case "json":
				return format.Objects(a.Out, []Version{v}, "{{json .}}")
			}
			return format.Objects(a.Out, []Version{v}, text)
		},
	}
	cmd.Flags().StringVarP(&text, "format", "f", "", "json, or a Go `template`")
	return cmd
}

// revision is the commit that the linker found in the work tree.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
